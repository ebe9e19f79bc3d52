/** Where a table's rows come from: the feed for the present, the API for the past. */

import {
  createEffect,
  createMemo,
  createSignal,
  onCleanup,
  untrack,
  type Accessor,
} from "solid-js";

import { ofAccount, pastParameters, rows as fetchRows, type Past, type Row } from "./api";
import type { Model } from "./columns";
import type { Feed } from "./feed";
import { isPast, type Place } from "./place";
import { Rows } from "./store";

export interface Source {
  readonly store: Rows;
  readonly loading: Accessor<boolean>;
  readonly problem: Accessor<string>;
}

/** How many accounts are asked about at the same time. */
const AT_ONCE = 4;

async function ofAccounts(
  names: readonly string[],
  model: string,
  place: Past,
  signal: AbortSignal,
): Promise<Row[]> {
  const found: Row[] = [];
  const waiting = [...names];
  const ask = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const told = await fetchRows(ofAccount(name, model), pastParameters(place), signal);
      for (const row of told) found.push(row);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  return found;
}

export function createSource(
  model: Model,
  feed: Feed,
  place: Accessor<Place>,
  accounts: Accessor<readonly string[]>,
): Source {
  const store = new Rows(model.key);
  const [loading, setLoading] = createSignal(true);
  const [problem, setProblem] = createSignal("");

  // Another tab of the page shows the same rows: they are not asked for again.
  const asked = createMemo(place, undefined, {
    equals: (a, b) => a.account === b.account && a.asOf === b.asOf && a.knownAt === b.knownAt,
  });
  createEffect(() => {
    const told = asked();
    const { account } = told;
    setLoading(true);
    setProblem("");
    if (isPast(told)) {
      const names = account === "" ? accounts() : [account];
      const stop = new AbortController();
      onCleanup(() => stop.abort());
      ofAccounts(names, model.topic, told, stop.signal)
        .then((found) => store.replace(found))
        .catch((error: Error) => {
          if (stop.signal.aborted) return;
          store.clear();
          setProblem(error.message);
        })
        .finally(() => setLoading(false));
      return;
    }
    untrack(() => store.clear());
    onCleanup(
      feed.subscribe(
        model.topic,
        account,
        (frame) => {
          store.apply(frame);
          setLoading(false);
        },
        (reason) => {
          setProblem(reason);
          setLoading(false);
        },
      ),
    );
  });
  return { store, loading, problem };
}
