/** Rows of a table, filtered and sorted: at once when few, at most twice a second when many. */

import { createEffect, createMemo, createSignal, on, onCleanup, type Accessor } from "solid-js";

import type { Row } from "./api";
import { contains, order, type Model } from "./columns";
import type { Rows } from "./store";
import type { Sort } from "./Table";

const MANY = 5_000;
const PAUSE_MS = 500;

export function sorted(
  model: Model,
  store: Rows,
  sort: Accessor<Sort>,
  filter: Accessor<string>,
  keep: Accessor<(row: Row) => boolean>,
): Accessor<readonly Row[]> {
  const [tick, setTick] = createSignal(0);
  let pending = 0;
  createEffect(
    on(store.version, () => {
      if (store.byKey.size <= MANY) setTick((was) => was + 1);
      else if (pending === 0) {
        pending = window.setTimeout(() => {
          pending = 0;
          setTick((was) => was + 1);
        }, PAUSE_MS);
      }
    }),
  );
  onCleanup(() => clearTimeout(pending));
  return createMemo(() => {
    tick();
    const text = filter().trim().toLowerCase();
    const wanted = keep();
    const told = sort();
    const column = model.columns.find(({ name }) => name === told.name) ?? model.columns[0]!;
    return [...store.byKey.values()]
      .filter((row) => wanted(row) && (text === "" || contains(row, model.columns, text)))
      .sort(order(column, told.descending));
  });
}
