/** Rows of a table, filtered and sorted: at once when few, at most ten times a second when many. */

import {
  createEffect,
  createMemo,
  createSignal,
  on,
  onCleanup,
  untrack,
  type Accessor,
} from "solid-js";

import type { Row } from "./api";
import { contains, type Column, type Model } from "./columns";
import { merged, order, ordered } from "./ordering";
import type { Rows } from "./store";
import type { Sort } from "./Table";

const MANY = 5_000;
const PAUSE_MS = 100;

interface Asked {
  readonly text: string;
  readonly keep: (row: Row) => boolean;
  readonly column: Column;
  readonly descending: boolean;
}

/** The rows that are shown, and how they came from those that were shown before. */
export interface Shown {
  readonly rows: readonly Row[];
  readonly asked: Asked;
  /** Whether they have nothing to do with those before. */
  readonly isNew: boolean;
  readonly gone: ReadonlySet<Row>;
  readonly fresh: readonly Row[];
}

/** Follow a signal at once, or while there is much to do, once a pause. */
function paced<T>(told: Accessor<T>, isMuch: () => boolean): Accessor<T> {
  const [followed, follow] = createSignal(untrack(told));
  let pending = 0;
  const catchUp = () => {
    pending = 0;
    follow(() => untrack(told));
  };
  createEffect(
    on(
      told,
      () => {
        if (!isMuch()) catchUp();
        else if (pending === 0) pending = window.setTimeout(catchUp, PAUSE_MS);
      },
      { defer: true },
    ),
  );
  onCleanup(() => clearTimeout(pending));
  return followed;
}

export function sorted(
  model: Model,
  store: Rows,
  sort: Accessor<Sort>,
  filter: Accessor<string>,
  keep: Accessor<(row: Row) => boolean>,
): Accessor<Shown> {
  const isMuch = () => store.byKey.size > MANY;
  const version = paced(store.version, isMuch);
  const text = paced(filter, isMuch);
  const asked = createMemo((): Asked => {
    const { name, descending } = sort();
    const column = model.columns.find((one) => one.name === name) ?? model.columns[0]!;
    return { text: text().trim().toLowerCase(), keep: keep(), column, descending };
  });
  return createMemo<Shown | null>((was) => {
    version();
    return next(model, store, asked(), was);
  }, null) as Accessor<Shown>;
}

/** Return what is shown now: rows that changed are put in their places, where that is enough. */
function next(model: Model, store: Rows, asked: Asked, was: Shown | null): Shown {
  const { text, keep, column, descending } = asked;
  const isWanted = (row: Row) => keep(row) && (text === "" || contains(row, model.columns, text));
  const all = () => ordered([...store.byKey.values()].filter(isWanted), column, descending);
  const changes = store.changes();
  if (changes === null || was === null || was.asked.keep !== keep) {
    return { rows: all(), asked, isNew: true, gone: new Set(), fresh: [] };
  }
  const { asked: before } = was;
  const gone = new Set([...changes.gone].filter(isWanted));
  const fresh = [...changes.fresh].filter(isWanted);
  const told = { asked, isNew: before.text !== text, gone, fresh };
  // Whoever types on looks among the rows that are there, and they are in order.
  const isNarrower = text.startsWith(before.text);
  if (!isNarrower || before.column !== column || before.descending !== descending) {
    return { ...told, rows: all() };
  }
  const kept = told.isNew ? was.rows.filter(isWanted) : was.rows;
  const compared = order(column, descending, (a, b) => store.before(a, b));
  return { ...told, rows: merged(kept, gone, fresh, compared) };
}
