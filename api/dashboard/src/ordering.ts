/** Sorting many rows, and keeping them sorted: a few that change cost no sort of the rest. */

import type { Row } from "./api";
import { isNumber, type Column } from "./columns";
import { compare, parse } from "./decimal";

export type Order = (a: Row, b: Row) => number;

const alphabetic = (a: string, b: string) => (a === b ? 0 : a < b ? -1 : 1);
/** Floats tell most numbers apart; what is equal as a float is compared to its last digit. */
const byDigits = (a: string, b: string) => (a === b ? 0 : compare(parse(a), parse(b)));

function isAbsent(row: Row, name: string): boolean {
  return row[name] === null || row[name] === undefined;
}

/** Return rows sorted by a column; what is equal stays as it was, what is absent comes last. */
export function ordered(rows: readonly Row[], column: Column, descending: boolean): Row[] {
  const { name, kind } = column;
  const present = rows.filter((row) => !isAbsent(row, name));
  const texts = present.map((row) => String(row[name]));
  const sign = descending ? -1 : 1;
  const places = Uint32Array.from(present.keys());
  if (isNumber(kind)) {
    // Each text is made a number once, and not at each comparison.
    const told = Float64Array.from(texts, Number);
    places.sort((a, b) => sign * (told[a]! - told[b]! || byDigits(texts[a]!, texts[b]!)) || a - b);
  } else places.sort((a, b) => sign * alphabetic(texts[a]!, texts[b]!) || a - b);
  const sorted = Array.from(places, (place) => present[place]!);
  if (present.length === rows.length) return sorted;
  return sorted.concat(rows.filter((row) => isAbsent(row, name)));
}

/** Return the same order of two rows; `before` tells which comes first of equal ones. */
export function order(column: Column, descending: boolean, before: Order): Order {
  const { name, kind } = column;
  const sign = descending ? -1 : 1;
  const compared = isNumber(kind)
    ? (a: string, b: string) => Number(a) - Number(b) || byDigits(a, b)
    : alphabetic;
  return (a, b) => {
    const absent = Number(isAbsent(a, name)) - Number(isAbsent(b, name));
    if (absent !== 0) return absent;
    if (isAbsent(a, name)) return before(a, b);
    return sign * compared(String(a[name]), String(b[name])) || before(a, b);
  };
}

/** Return sorted rows without those that are gone and with those that are new, sorted. */
export function merged(
  was: readonly Row[],
  gone: ReadonlySet<Row>,
  fresh: readonly Row[],
  compared: Order,
): Row[] {
  const kept = gone.size === 0 ? was : was.filter((row) => !gone.has(row));
  const rows: Row[] = [];
  let from = 0;
  for (const row of [...fresh].sort(compared)) {
    const to = place(kept, row, compared, from);
    for (; from < to; from++) rows.push(kept[from]!);
    rows.push(row);
  }
  for (; from < kept.length; from++) rows.push(kept[from]!);
  return rows;
}

/** Return where a row belongs among sorted rows, at `from` or after. */
function place(rows: readonly Row[], row: Row, compared: Order, from: number): number {
  let low = from;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compared(rows[middle]!, row) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
