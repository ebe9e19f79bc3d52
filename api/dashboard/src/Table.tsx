/** A table of any length: only the rows that can be seen are in the page. */

import {
  createEffect,
  createMemo,
  createSignal,
  For,
  Index,
  on,
  onCleanup,
  onMount,
  Show,
} from "solid-js";

import type { Row } from "./api";
import { display, isNumber, type Column } from "./columns";
import { NEWS_MS } from "./store";

const ROW_PX = 30;
const BEYOND = 10;
/** Texts up to this part of a column's width fit in whatever letters they have. */
const SURE = 0.6;
const PHONE_PX = 620;
const TABLET_PX = 980;
const FLASH_MS = 900;
/** How far from where it was a row is looked for. */
const NEAR = 100;

export interface Sort {
  readonly name: string;
  readonly descending: boolean;
}

interface Props {
  readonly label: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  /** The row that has a key now. */
  readonly rowOf: (key: string) => Row | undefined;
  /** Keys of rows that changed, and when; what is shown to have changed is taken out. */
  readonly changed: Map<string, number>;
  readonly sort: Sort;
  readonly onSort: (name: string) => void;
  readonly selected: string | null;
  readonly onOpen: (row: Row, column: Column | null) => void;
  readonly empty: string;
}

/** Return the class that colours a text of a column. */
export function tone(column: Column, text: string): string {
  if (column.kind === "signed" && /[1-9]/.test(text)) {
    return text.startsWith("\u2212") ? "loss" : "gain";
  }
  if (column.kind === "status") return `status-${text.replaceAll(" ", "-")}`;
  return "";
}

function alignment(column: Column): string {
  if (isNumber(column.kind)) return "number";
  return column.kind === "time" ? "moment" : "";
}

/** Show that a row has changed, for a moment. */
function flash(element: Element): void {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  element.animate([{ background: "var(--flash)" }, {}], { duration: FLASH_MS, easing: "ease-out" });
}

export function Table(props: Props) {
  let scroller!: HTMLDivElement;
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [width, setWidth] = createSignal(1200);
  const [activeKey, setActiveKey] = createSignal<string | null>(null);

  onMount(() => {
    const observer = new ResizeObserver(() => {
      setHeight(scroller.clientHeight);
      setWidth(scroller.clientWidth);
    });
    observer.observe(scroller);
    onCleanup(() => observer.disconnect());
  });

  const columns = createMemo(() => {
    const rank = width() < PHONE_PX ? 1 : width() < TABLET_PX ? 2 : 3;
    return props.columns.filter((column) => column.rank <= rank);
  });
  const least = (column: Column) =>
    width() < PHONE_PX ? Math.round(column.width * 0.75) : column.width;
  const template = createMemo(() =>
    columns()
      .map((column) => `minmax(${least(column)}ch, ${column.width}fr)`)
      .join(" "),
  );
  const leastWidth = () => columns().reduce((sum, column) => sum + least(column), 0);
  const count = createMemo(() =>
    Math.min(props.rows.length, Math.ceil(height() / ROW_PX) + 1 + 2 * BEYOND),
  );
  const first = createMemo(() =>
    Math.max(0, Math.min(Math.floor(top() / ROW_PX) - BEYOND, props.rows.length - count())),
  );
  /** A row keeps its place in the page while it is in sight: only what comes in is drawn anew. */
  const indexIn = (slot: number) => {
    const told = count();
    return told === 0 ? 0 : first() + ((((slot - first()) % told) + told) % told);
  };
  const seen = createMemo(() =>
    Array.from({ length: count() }, (_, slot) => props.rows[indexIn(slot)]!),
  );

  /** Where the row is that is marked: it stays so wherever it goes. */
  const active = createMemo((was: number) => {
    const key = activeKey();
    const last = Math.max(0, props.rows.length - 1);
    if (key === null) return Math.min(was, last);
    const row = props.rowOf(key);
    const index = row === undefined ? -1 : props.rows.indexOf(row);
    if (index >= 0) return index;
    // It is gone; or it has changed since these rows were put in order, and is near.
    const from = Math.max(0, was - NEAR);
    const near = props.rows.slice(from, was + NEAR).findIndex((one) => props.keyOf(one) === key);
    return near >= 0 ? from + near : Math.min(was, last);
  }, 0);
  const mark = (index: number) => {
    const row = props.rows[index];
    if (row !== undefined) setActiveKey(props.keyOf(row));
  };

  const goTo = (index: number) => {
    const target = Math.min(Math.max(index, 0), props.rows.length - 1);
    mark(target);
    const head = target * ROW_PX;
    if (head < scroller.scrollTop) scroller.scrollTop = head;
    const foot = head + 2 * ROW_PX - scroller.clientHeight;
    if (foot > scroller.scrollTop) scroller.scrollTop = foot;
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const pageRows = Math.max(1, Math.floor(height() / ROW_PX) - 2);
    const steps: Record<string, number> = {
      ArrowDown: active() + 1,
      ArrowUp: active() - 1,
      PageDown: active() + pageRows,
      PageUp: active() - pageRows,
      Home: 0,
      End: props.rows.length - 1,
    };
    const target = steps[event.key];
    const row = props.rows[active()];
    const isHead = event.target !== event.currentTarget;
    if (target !== undefined) goTo(target);
    else if (event.key === "Enter" && !isHead && row !== undefined) props.onOpen(row, null);
    else return;
    event.preventDefault();
  };

  const isNews = (row: Row) => {
    const key = props.keyOf(row);
    const at = props.changed.get(key);
    return props.changed.delete(key) && performance.now() - at! < NEWS_MS;
  };
  /** The rows of the page in their order: in the page each has the place where it came in. */
  const owned = createMemo(() =>
    Array.from({ length: count() }, (_, offset) => `${props.label}-${first() + offset}`).join(" "),
  );

  return (
    <div
      class="table"
      role="grid"
      aria-label={props.label}
      aria-rowcount={props.rows.length + 1}
      aria-colcount={columns().length}
      aria-activedescendant={props.rows.length > 0 ? `${props.label}-${active()}` : undefined}
      tabindex="0"
      onKeyDown={onKeyDown}
      onFocus={() => mark(active())}
    >
      <div class="scroller" ref={scroller} onScroll={() => setTop(scroller.scrollTop)}>
        <div class="sheet" role="presentation" style={{ "min-width": `${leastWidth()}ch` }}>
          <div
            class="row head"
            role="row"
            aria-rowindex="1"
            style={{ "grid-template-columns": template() }}
          >
            <For each={columns()}>
              {(column) => (
                <div
                  role="columnheader"
                  class={isNumber(column.kind) ? "number" : ""}
                  aria-sort={
                    props.sort.name !== column.name
                      ? "none"
                      : props.sort.descending
                        ? "descending"
                        : "ascending"
                  }
                >
                  <button type="button" onClick={() => props.onSort(column.name)}>
                    <span class="arrow" aria-hidden="true">
                      {props.sort.name === column.name ? (props.sort.descending ? "▾" : "▴") : ""}
                    </span>
                    {column.title}
                  </button>
                </div>
              )}
            </For>
          </div>
          <div
            class="rows"
            role="rowgroup"
            aria-owns={owned()}
            style={{ height: `${props.rows.length * ROW_PX}px` }}
          >
            <Index each={seen()}>
              {(row, slot) => {
                const index = createMemo(() => indexIn(slot));
                return (
                  <div
                    class="row"
                    role="row"
                    id={`${props.label}-${index()}`}
                    aria-rowindex={index() + 2}
                    aria-selected={props.selected === props.keyOf(row())}
                    classList={{ active: active() === index() }}
                    ref={(element) => {
                      createEffect(on(row, () => isNews(row()) && flash(element)));
                    }}
                    style={{
                      "grid-template-columns": template(),
                      transform: `translateY(${index() * ROW_PX}px)`,
                    }}
                    onClick={() => {
                      mark(index());
                      props.onOpen(row(), null);
                    }}
                  >
                    <For each={columns()}>
                      {(column) => {
                        const length = (text: string) =>
                          text.length > SURE * least(column) ? "long" : "";
                        const text = createMemo(() => display(row()[column.name], column.kind));
                        return (
                          <div
                            role="gridcell"
                            class={`${alignment(column)} ${tone(column, text())} ${length(text())}`}
                            title={String(row()[column.name] ?? "")}
                            onClick={(event) => {
                              event.stopPropagation();
                              mark(index());
                              props.onOpen(row(), column);
                            }}
                          >
                            {text()}
                          </div>
                        );
                      }}
                    </For>
                  </div>
                );
              }}
            </Index>
          </div>
        </div>
        <Show when={props.rows.length === 0}>
          <p class="empty">{props.empty}</p>
        </Show>
      </div>
    </div>
  );
}
