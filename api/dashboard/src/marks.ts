/** Newer prices for positions that have not changed: the feed tells a row when it is booked on. */

import { createEffect, createMemo, onCleanup, type Accessor } from "solid-js";

import { ofAccount, page, rows as fetchRows, type Row } from "./api";
import { isPast, type Place } from "./place";
import type { Rows } from "./store";

/** Every question is a line of the audit: while no price comes, it is asked less and less often. */
const EVERY_MS = 5_000;
const AT_LEAST_EVERY_MS = 30_000;
/** Of how many instruments an account is asked one by one, before it is asked for as a whole. */
const FEW = 4;
const MOST_FIRST = 1_000;
export const MARK = ["mark", "market_value", "unrealised_pnl", "mark_time"] as const;

/** Return by account the instruments held of which there is a new price. */
export function touched(
  rows: Iterable<Row>,
  priced: ReadonlySet<string>,
): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const row of rows) {
    const instrument = String(row["instrument"]);
    if (!priced.has(instrument)) continue;
    const account = String(row["account"]);
    found.set(account, (found.get(account) ?? new Set()).add(instrument));
  }
  return found;
}

/** Follows the log of prices, from the first time it is asked. */
class Prices {
  /** Up to where the log was read. */
  position = "";
  /** Instruments that were priced; whoever has shown the prices takes them out. */
  readonly news = new Set<string>();

  /** Take in what is new: at first, the instruments of all rows. */
  async read(rows: Iterable<Row>, signal: AbortSignal): Promise<void> {
    if (this.position === "") {
      this.position = (await page("/v1/prices", { limit: "1" }, signal)).position;
      for (const row of rows) this.news.add(String(row["instrument"]));
      return;
    }
    let cursor = "";
    do {
      const told = { topic: "prices", after: this.position, limit: "1000", cursor };
      const { data, next, position } = await page("/v1/events", told, signal);
      for (const event of data) this.news.add(String(event["key"]));
      cursor = next ?? "";
      if (cursor === "") this.position = position;
    } while (cursor !== "");
  }
}

/** Return the rows of a small book: of a large one the feed's marks are trusted to be new. */
function few(store: Rows): Iterable<Row> {
  return store.byKey.size <= MOST_FIRST ? store.byKey.values() : [];
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
  if (priced.size > FEW) return fetchRows(path, told, signal);
  const ask = (instrument: string) => fetchRows(path, { ...told, instrument }, signal);
  return (await Promise.all([...priced].map(ask))).flat();
}

/** Put new marks on the positions of the page, for as long as it shows the present. */
export function keepMarked(store: Rows, place: Accessor<Place>, isLive: Accessor<boolean>): void {
  const moves = createMemo(() => !isPast(place()) && isLive());
  createEffect(() => {
    if (!moves()) return;
    const prices = new Prices();
    const stop = new AbortController();
    let timer = 0;
    let pause = EVERY_MS;
    const look = async () => {
      try {
        if (!document.hidden && store.byKey.size > 0) {
          await prices.read(few(store), stop.signal);
          pause = prices.news.size > 0 ? EVERY_MS : Math.min(pause * 1.5, AT_LEAST_EVERY_MS);
          for (const [account, held] of touched(store.byKey.values(), prices.news))
            store.remark(await remarked(account, held, prices.position, stop.signal), MARK);
          prices.news.clear();
        }
      } catch {
        // The feed's health says that the server is away; prices are looked for again.
      }
      if (!stop.signal.aborted) timer = window.setTimeout(() => void look(), pause);
    };
    timer = window.setTimeout(() => void look(), 0);
    onCleanup(() => {
      stop.abort();
      clearTimeout(timer);
    });
  });
}
