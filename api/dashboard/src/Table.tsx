/** A table of any length: only the rows that can be seen are in the page. */

import {
  createEffect,
  createMemo,
  createSignal,
  For,
  Index,
  onCleanup,
  onMount,
  Show,
} from "solid-js";

import type { Row } from "./api";
import { display, isNumber, type Column } from "./columns";

const ROW_PX = 30;
const BEYOND = 10;
const PHONE_PX = 620;
const TABLET_PX = 980;
const FLASH_MS = 900;

export interface Sort {
  readonly name: string;
  readonly descending: boolean;
}

interface Props {
  readonly label: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  readonly changed?: ReadonlyMap<string, number>;
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

export function Table(props: Props) {
  let scroller!: HTMLDivElement;
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(600);
  const [width, setWidth] = createSignal(1200);
  const [active, setActive] = createSignal(0);

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

  createEffect(() => {
    if (active() >= props.rows.length) setActive(Math.max(0, props.rows.length - 1));
  });

  const goTo = (index: number) => {
    const target = Math.min(Math.max(index, 0), props.rows.length - 1);
    setActive(target);
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
    if (target !== undefined) goTo(target);
    else if (event.key === "Enter" && row !== undefined) props.onOpen(row, null);
    else return;
    event.preventDefault();
  };

  const flashes = (row: Row) => {
    const at = props.changed?.get(props.keyOf(row));
    return at !== undefined && performance.now() - at < FLASH_MS;
  };

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
                  <button type="button" tabindex="-1" onClick={() => props.onSort(column.name)}>
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
            role="presentation"
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
                    classList={{
                      active: active() === index(),
                      changed: flashes(row()),
                    }}
                    style={{
                      "grid-template-columns": template(),
                      transform: `translateY(${index() * ROW_PX}px)`,
                    }}
                    onClick={() => {
                      setActive(index());
                      props.onOpen(row(), null);
                    }}
                  >
                    <For each={columns()}>
                      {(column) => {
                        const text = () => display(row()[column.name], column.kind);
                        return (
                          <div
                            role="gridcell"
                            class={`${alignment(column)} ${tone(column, text())}`}
                            title={String(row()[column.name] ?? "")}
                            onClick={(event) => {
                              event.stopPropagation();
                              setActive(index());
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
