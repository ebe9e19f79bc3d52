/** Newer prices for positions that have not changed: the feed tells a row when it is booked on. */

import { createEffect, createMemo, on, onCleanup, type Accessor } from "solid-js";

import { ofAccount, page, rows as fetchRows, type Row } from "./api";
import { isPast, type Place } from "./place";
import type { Rows } from "./store";

/** Every question is a line of the audit: while no price comes, it is asked less and less often. */
const EVERY_MS = 5_000;
const AT_LEAST_EVERY_MS = 30_000;
/** Of how many instruments an account is asked one by one, before it is asked for as a whole. */
const FEW = 4;
const MOST_FIRST = 1_000;
const NONE: ReadonlySet<string> = new Set();
const PAGE_EVENTS = "1000";
/** With more prices than fit into so many pages all that is held counts as priced. */
const MOST_PAGES = 20;
export const MARK = ["mark", "market_value", "unrealised_pnl", "mark_time"] as const;

/** Return by account the instruments held of which there is a new price, null for any. */
export function touched(
  rows: Iterable<Row>,
  priced: ReadonlySet<string> | null,
): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const row of rows) {
    const instrument = String(row["instrument"]);
    if (priced !== null && !priced.has(instrument)) continue;
    const account = String(row["account"]);
    found.set(account, (found.get(account) ?? new Set()).add(instrument));
  }
  return found;
}

/** Follows the log of prices from where it was when the page was opened. */
class Prices {
  /** Up to where the log was read. */
  position = "";

  /** Return the instruments that were priced since; null for any, where that is not known. */
  async since(signal: AbortSignal): Promise<Set<string> | null> {
    if (this.position === "") {
      await this.begin(signal);
      return null;
    }
    const found = new Set<string>();
    let cursor = "";
    for (let pages = 0; pages < MOST_PAGES; pages++) {
      const told = { topic: "prices", after: this.position, limit: PAGE_EVENTS, cursor };
      const { data, next, position } = await page("/v1/events", told, signal);
      for (const event of data) found.add(String(event["key"]));
      if (next === null) {
        this.position = position;
        return found;
      }
      cursor = next;
    }
    await this.begin(signal);
    return null;
  }

  async begin(signal: AbortSignal): Promise<void> {
    this.position = (await page("/v1/prices", { limit: "1" }, signal)).position;
  }
}

async function remarked(
  account: string,
  priced: ReadonlySet<string>,
  position: string,
  signal: AbortSignal,
): Promise<Row[]> {
  const path = ofAccount(account, "positions");
  // The log is ahead of the read models: what was just priced there may not be a mark yet.
  const told = { min_position: position };
  if (priced.size > FEW) return (await fetchRows(path, told, signal)).rows;
  const ask = (instrument: string) => fetchRows(path, { ...told, instrument }, signal);
  return (await Promise.all([...priced].map(ask))).flatMap(({ rows }) => rows);
}

/** Put new marks on the positions of the page, for as long as it shows the present. */
export function keepMarked(store: Rows, place: Accessor<Place>, isLive: Accessor<boolean>): void {
  const prices = new Prices();
  /** By account, the instruments whose new prices are not shown yet. */
  const due = new Map<string, Set<string>>();
  let isFirst = true;

  /** Show what is new; return whether anything is. */
  const look = async (signal: AbortSignal): Promise<boolean> => {
    const told = await prices.since(signal);
    // At first all of a small book is asked about; the marks that came with a large one are
    // trusted, but for what was priced since the page was opened.
    const isLarge = store.byKey.size > MOST_FIRST;
    const priced = !isFirst ? told : isLarge ? (told ?? NONE) : null;
    for (const [account, held] of touched(store.byKey.values(), priced)) {
      const waiting = due.get(account) ?? new Set();
      for (const instrument of held) waiting.add(instrument);
      due.set(account, waiting);
    }
    isFirst = false;
    const isNew = due.size > 0;
    for (const [account, held] of due) {
      store.remark(await remarked(account, held, prices.position, signal), MARK);
      due.delete(account);
    }
    return isNew;
  };

  const opening = new AbortController();
  onCleanup(() => opening.abort());
  // Before the first rows are asked for, so that no price is missed that comes after them.
  prices.begin(opening.signal).catch(() => {
    // It begins with the first look.
  });
  createEffect(
    on(
      () => place().account,
      () => due.clear(),
      { defer: true },
    ),
  );
  const followed = createMemo(() => (isPast(place()) || !isLive() ? null : place().account));
  createEffect(() => {
    if (followed() === null) return;
    const stop = new AbortController();
    let timer = 0;
    let pause = EVERY_MS;
    const again = async () => {
      try {
        if (!document.hidden && store.byKey.size > 0) {
          pause = (await look(stop.signal)) ? EVERY_MS : Math.min(pause * 1.5, AT_LEAST_EVERY_MS);
        }
      } catch {
        // The feed's health says that the server is away; prices are looked for again.
      }
      if (!stop.signal.aborted) timer = window.setTimeout(() => void again(), pause);
    };
    timer = window.setTimeout(() => void again(), 0);
    onCleanup(() => {
      stop.abort();
      clearTimeout(timer);
    });
  });
}
