/** Position, price and value of one instrument over time. Drawn only: the numbers are in the rows. */

import { createEffect, createSignal, onCleanup, onMount, untrack } from "solid-js";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Series {
  readonly times: number[];
  readonly quantity: (number | null)[];
  readonly price: (number | null)[];
  readonly value: (number | null)[];
}

/** Return a colour of the page as a canvas takes it: the one of the theme that is on. */
function colourOf(holder: HTMLElement, name: string): string {
  holder.style.color = `var(${name})`;
  const told = getComputedStyle(holder).color;
  holder.style.removeProperty("color");
  return told;
}

function options(holder: HTMLElement, width: number): uPlot.Options {
  const colour = (name: string) => colourOf(holder, name);
  // Between two deals, or two prices, what was told last is what is known.
  const paths = uPlot.paths.stepped!({ align: 1 });
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 } };
  return {
    width,
    height: 220,
    scales: { x: { time: true }, quantity: {}, price: {}, value: {} },
    axes: [
      axis,
      { ...axis, scale: "value", size: 78 },
      { ...axis, scale: "price", side: 1, grid: { show: false }, size: 50 },
    ],
    series: [
      {},
      {
        label: "Position",
        scale: "quantity",
        stroke: colour("--accent"),
        width: 1.5,
        paths,
        points: { show: false },
      },
      {
        label: "Price",
        scale: "price",
        stroke: colour("--price"),
        paths,
        points: { show: false },
      },
      {
        label: "Value",
        scale: "value",
        stroke: colour("--muted"),
        fill: colour("--shade"),
        paths,
        points: { show: false },
      },
    ],
  };
}

function data({ times, quantity, price, value }: Series): uPlot.AlignedData {
  return [times, quantity, price, value];
}

/** Return what goes up whenever the page has other colours. */
function createColours(): () => number {
  const [count, setCount] = createSignal(0);
  const changed = () => setCount((was) => was + 1);
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  const theme = new MutationObserver(changed);
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  onCleanup(() => {
    system.removeEventListener("change", changed);
    theme.disconnect();
  });
  return count;
}

export function Chart(props: { readonly series: Series; readonly label: string }) {
  let holder!: HTMLDivElement;
  let plot: uPlot | undefined;
  const colours = createColours();
  const width = () => Math.max(holder.clientWidth, 240);
  // A canvas keeps the colours that it was drawn in: for others it is made anew.
  createEffect(() => {
    colours();
    const made = new uPlot(
      options(holder, width()),
      untrack(() => data(props.series)),
      holder,
    );
    plot = made;
    onCleanup(() => made.destroy());
  });
  createEffect(() => plot?.setData(data(props.series)));
  onMount(() => {
    const observer = new ResizeObserver(() => plot?.setSize({ width: width(), height: 220 }));
    observer.observe(holder);
    onCleanup(() => observer.disconnect());
  });
  return <div class="chart" ref={holder} role="img" aria-label={props.label} />;
}
