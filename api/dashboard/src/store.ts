/** The rows of one table, kept by their key, and told to the page once a frame of the screen. */

import { createSignal, type Accessor } from "solid-js";

import type { Row } from "./api";
import type { RowsFrame } from "./chain";

/** Rows of a larger frame are not news, but what was missed. */
const MOST_NEWS = 200;
/** What has changed is news for so long. */
export const NEWS_MS = 5_000;

/** What became of rows: those that are gone or were replaced, and those that are new. */
export interface Changes {
  readonly gone: ReadonlySet<Row>;
  readonly fresh: ReadonlySet<Row>;
}

export class Rows {
  /** Goes up whenever the rows have changed. */
  readonly version: Accessor<number>;
  /** Keys that the last frames changed, and when, the oldest first. */
  readonly changed = new Map<string, number>();
  readonly byKey = new Map<string, Row>();
  /** The accounts that any row was ever of: new ones come by the feed. */
  readonly accounts = new Set<string>();
  /** How many accounts these are. */
  readonly accountCount: Accessor<number>;
  #setVersion: (change: (was: number) => number) => void;
  #setAccountCount: (count: number) => void;
  #key: readonly string[];
  #told = false;
  #gone = new Set<Row>();
  #fresh = new Set<Row>();
  /** Whether other rows were looked at than any that are there now. */
  #isNew = true;
  #ordinals = new WeakMap<Row, number>();
  #nextOrdinal = 0;

  constructor(key: readonly string[]) {
    const [version, setVersion] = createSignal(0);
    this.version = version;
    this.#setVersion = setVersion;
    const [accountCount, setAccountCount] = createSignal(0);
    this.accountCount = accountCount;
    this.#setAccountCount = setAccountCount;
    this.#key = key;
  }

  keyOf(row: Row): string {
    return this.#key.map((name) => String(row[name])).join("\u0000");
  }

  /** Tell which of two rows is before the other: a row has the place of the one it replaced. */
  before(a: Row, b: Row): number {
    return this.#ordinals.get(a)! - this.#ordinals.get(b)!;
  }

  /** Return what has changed since this was last asked, null where that is everything. */
  changes(): Changes | null {
    const told = this.#isNew ? null : { gone: this.#gone, fresh: this.#fresh };
    this.#gone = new Set();
    this.#fresh = new Set();
    this.#isNew = false;
    return told;
  }

  /** Take in a frame of a subscription to an account, or to all for "". */
  apply(frame: RowsFrame, account: string): void {
    if (frame.op === "snapshot") this.forget(account);
    const isNews = frame.op === "delta" && frame.rows.length < MOST_NEWS;
    for (const row of frame.rows) {
      const key = this.keyOf(row);
      this.#put(key, row);
      this.accounts.add(String(row["account"]));
      if (isNews) this.#note(key);
    }
    for (const row of frame.removed ?? []) this.#drop(this.keyOf(row));
    this.#tell();
  }

  /** Take columns from rows as they are told now, where a row has not changed otherwise. */
  remark(rows: Iterable<Row>, columns: readonly string[]): void {
    let isNew = false;
    for (const row of rows) {
      const key = this.keyOf(row);
      const was = this.byKey.get(key);
      if (was === undefined) continue;
      const same = Object.keys(was).filter((name) => !columns.includes(name));
      if (same.some((name) => JSON.stringify(was[name]) !== JSON.stringify(row[name]))) continue;
      if (columns.every((name) => was[name] === row[name])) continue;
      this.#put(key, row);
      this.#note(key);
      isNew = true;
    }
    if (isNew) this.#tell();
  }

  replace(rows: Iterable<Row>): void {
    this.byKey.clear();
    this.changed.clear();
    this.#gone.clear();
    this.#fresh.clear();
    this.#isNew = true;
    for (const row of rows) this.#put(this.keyOf(row), row);
    this.#tell();
  }

  /** Forget the rows of an account, or of all for "". */
  forget(account: string): void {
    if (account === "") {
      this.replace([]);
      return;
    }
    if (!this.accounts.has(account)) return;
    for (const [key, row] of this.byKey) if (row["account"] === account) this.#drop(key);
    this.#tell();
  }

  #put(key: string, row: Row): void {
    const was = this.byKey.get(key);
    this.#ordinals.set(row, (was && this.#ordinals.get(was)) ?? this.#nextOrdinal++);
    this.#lose(was);
    if (!this.#isNew) this.#fresh.add(row);
    this.byKey.set(key, row);
  }

  #drop(key: string): void {
    this.#lose(this.byKey.get(key));
    this.byKey.delete(key);
  }

  /** Note that a row is gone, or was never looked at. */
  #lose(row: Row | undefined): void {
    if (row === undefined || this.#isNew) return;
    if (!this.#fresh.delete(row)) this.#gone.add(row);
  }

  #note(key: string): void {
    const now = performance.now();
    for (const [old, at] of this.changed) {
      if (now - at < NEWS_MS) break;
      this.changed.delete(old);
    }
    this.changed.delete(key);
    this.changed.set(key, now);
  }

  #tell(): void {
    if (this.#told) return;
    this.#told = true;
    requestAnimationFrame(() => {
      this.#told = false;
      this.#setAccountCount(this.accounts.size);
      this.#setVersion((was) => was + 1);
    });
  }
}
