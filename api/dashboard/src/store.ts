/** The rows of one table, kept by their key, and told to the page once a frame of the screen. */

import { createSignal, type Accessor } from "solid-js";

import type { Row } from "./api";
import type { RowsFrame } from "./chain";

export class Rows {
  /** Goes up whenever the rows have changed. */
  readonly version: Accessor<number>;
  /** Keys that the last frames changed, for a short while. */
  readonly changed = new Map<string, number>();
  readonly byKey = new Map<string, Row>();
  /** The accounts that any row was ever of: new ones come by the feed. */
  readonly accounts = new Set<string>();
  #setVersion: (change: (was: number) => number) => void;
  #key: readonly string[];
  #told = false;

  constructor(key: readonly string[]) {
    const [version, setVersion] = createSignal(0);
    this.version = version;
    this.#setVersion = setVersion;
    this.#key = key;
  }

  keyOf(row: Row): string {
    return this.#key.map((name) => String(row[name])).join("\u0000");
  }

  apply(frame: RowsFrame): void {
    if (frame.op === "snapshot") this.byKey.clear();
    const now = performance.now();
    for (const row of frame.rows) {
      const key = this.keyOf(row);
      this.byKey.set(key, row);
      this.accounts.add(String(row["account"]));
      if (frame.op === "delta") this.changed.set(key, now);
    }
    for (const row of frame.removed ?? []) this.byKey.delete(this.keyOf(row));
    this.#tell();
  }

  /** Take columns from rows as they are told now, where a row has not changed otherwise. */
  remark(rows: Iterable<Row>, columns: readonly string[]): void {
    const now = performance.now();
    for (const row of rows) {
      const key = this.keyOf(row);
      const was = this.byKey.get(key);
      if (was === undefined) continue;
      const same = Object.keys(was).filter((name) => !columns.includes(name));
      if (same.some((name) => JSON.stringify(was[name]) !== JSON.stringify(row[name]))) continue;
      if (columns.every((name) => was[name] === row[name])) continue;
      this.byKey.set(key, row);
      this.changed.set(key, now);
    }
    this.#tell();
  }

  replace(rows: Iterable<Row>): void {
    this.byKey.clear();
    this.changed.clear();
    for (const row of rows) this.byKey.set(this.keyOf(row), row);
    this.#tell();
  }

  clear(): void {
    this.replace([]);
  }

  #tell(): void {
    if (this.#told) return;
    this.#told = true;
    requestAnimationFrame(() => {
      this.#told = false;
      this.#setVersion((was) => was + 1);
    });
  }
}
