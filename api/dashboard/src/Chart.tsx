/** Position, price and value of one instrument over time. Drawn only: the numbers are in the rows. */

import { createEffect, onCleanup, onMount } from "solid-js";
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
        paths: uPlot.paths.stepped!({ align: 1 }),
        points: { show: false },
      },
      { label: "Price", scale: "price", stroke: colour("--price"), points: { show: false } },
      {
        label: "Value",
        scale: "value",
        stroke: colour("--muted"),
        fill: colour("--shade"),
        points: { show: false },
      },
    ],
  };
}

export function Chart(props: { readonly series: Series; readonly label: string }) {
  let holder!: HTMLDivElement;
  let plot: uPlot | undefined;
  onMount(() => {
    plot = new uPlot(options(holder, Math.max(holder.clientWidth, 240)), [[], [], [], []], holder);
    const observer = new ResizeObserver(() =>
      plot?.setSize({ width: Math.max(holder.clientWidth, 240), height: 220 }),
    );
    observer.observe(holder);
    onCleanup(() => {
      observer.disconnect();
      plot?.destroy();
    });
  });
  createEffect(() => {
    const { times, quantity, price, value } = props.series;
    plot?.setData([times, quantity, price, value]);
  });
  return <div class="chart" ref={holder} role="img" aria-label={props.label} />;
}
