/** Where a table's rows come from: the feed for the present, the API for the past. */

import {
  createEffect,
  createMemo,
  createSignal,
  mapArray,
  onCleanup,
  untrack,
  type Accessor,
} from "solid-js";

import type { Accounts } from "./accounts";
import { ofAccount, pastParameters, rows as fetchRows, type Found, type Row } from "./api";
import type { Model } from "./columns";
import type { Feed } from "./feed";
import { isPast, type Place } from "./place";
import { Rows } from "./store";

export interface Source {
  readonly store: Rows;
  readonly loading: Accessor<boolean>;
  readonly problem: Accessor<string>;
  /** Whether these are all rows there are; a table of the past may have too many. */
  readonly isWhole: Accessor<boolean>;
}

/** How many accounts are asked about at the same time. */
const AT_ONCE = 4;
const FORBIDDEN = "urn:daybook:problem:forbidden";
const SERVER_FAULT = 500;

async function accountNames(signal: AbortSignal): Promise<string[]> {
  return (await fetchRows("/v1/accounts", {}, signal)).rows.map((row) => String(row["account"]));
}

/** Return the rows of the past of one account, or of all there are for "". */
async function pastRows(model: string, place: Place, signal: AbortSignal): Promise<Found> {
  const waiting = place.account === "" ? await accountNames(signal) : [place.account];
  const found: Row[] = [];
  let isWhole = true;
  const ask = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const told = await fetchRows(ofAccount(name, model), pastParameters(place), signal);
      for (const row of told.rows) found.push(row);
      isWhole &&= told.isWhole;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  return { rows: found, isWhole };
}

export function createSource(
  model: Model,
  feed: Feed,
  place: Accessor<Place>,
  accounts: Accounts,
  isShown: Accessor<boolean>,
): Source {
  const store = new Rows(model.key);
  const [loading, setLoading] = createSignal(true);
  const [problem, setProblem] = createSignal("");
  const [isWhole, setWhole] = createSignal(true);

  const askPast = (told: Place) => {
    const stop = new AbortController();
    onCleanup(() => stop.abort());
    pastRows(model.topic, told, stop.signal)
      .then((found) => {
        if (stop.signal.aborted) return;
        store.replace(found.rows);
        setWhole(found.isWhole);
      })
      .catch((error: Error) => stop.signal.aborted || setProblem(error.message))
      .finally(() => stop.signal.aborted || setLoading(false));
  };

  const follow = (told: Place) => {
    const names = createMemo(() =>
      told.account === "" && accounts.isLimited() ? accounts.listed() : [told.account],
    );
    /** By account that is followed, what is wrong with it; null before its first frame. */
    const faults = new Map<string, string | null>();
    const tell = () => {
      const told = [...faults.values()];
      setLoading(told.includes(null));
      setProblem(told.find((fault) => fault) ?? "");
    };
    const note = (name: string, fault: string | null) => {
      if (faults.get(name) === fault) return;
      faults.set(name, fault);
      tell();
    };
    const followed = mapArray(
      () => names() ?? [],
      (name) => {
        untrack(() => note(name, null));
        const stop = feed.subscribe(
          model.topic,
          name,
          (frame) => {
            store.apply(frame, name);
            note(name, "");
          },
          (refusal) => {
            if (name === "" && refusal.type === FORBIDDEN) {
              accounts.limit();
              return;
            }
            if (refusal.status < SERVER_FAULT) store.forget(name);
            note(name, refusal.detail ?? refusal.title);
          },
        );
        onCleanup(() => {
          stop();
          faults.delete(name);
          store.forget(name);
        });
      },
    );
    createEffect(() => {
      followed();
      if (names() === undefined) setProblem(accounts.problem());
      else tell();
    });
  };

  // Another tab of the page shows the same rows: they are not asked for again.
  const asked = createMemo(place, undefined, {
    equals: (a, b) => a.account === b.account && a.asOf === b.asOf && a.knownAt === b.knownAt,
  });
  // What nobody has looked at is not asked for; what was looked at is kept up.
  const isWanted = createMemo((was: boolean) => was || isShown(), false);
  createEffect(() => {
    const told = asked();
    if (!isWanted()) return;
    setLoading(true);
    setProblem("");
    setWhole(true);
    if (isPast(told)) askPast(told);
    else follow(told);
    // What was asked for before is not to be seen beside what is asked for now.
    onCleanup(() => store.forget(""));
  });
  return { store, loading, problem, isWhole };
}
