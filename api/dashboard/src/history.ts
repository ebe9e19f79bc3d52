/** How a position came about: its deals and movements added up, beside the prices of the time. */

import type { Row } from "./api";
import type { Series } from "./Chart";
import { add, approximate, negate, parse, type Decimal } from "./decimal";

const NONE: Decimal = { units: 0n, scale: 0 };
/** The prices that the ledger marks positions with. */
const MARKS: readonly unknown[] = ["close", "last", "mid"];

function seconds(row: Row): number {
  return Date.parse(String(row["event_time"])) / 1000;
}

/** Return the signed quantity of a deal or a movement; what was busted or reversed has none. */
function signed(fact: Row): Decimal {
  if (fact["status"] === "busted" || fact["status"] === "reversed") return NONE;
  const quantity = parse(String(fact["quantity"]));
  return fact["side"] === "sell" ? negate(quantity) : quantity;
}

/** Return a number for drawing, where a float is near enough; what is not told is the other. */
function near(row: Row | undefined, name: string, absent: number): number {
  const value = row?.[name];
  return value === null || value === undefined ? absent : Number(value);
}

/** Return the price of a row in its currency: pence are told with a unit of 0.01. */
function priceOf(row: Row): number {
  return near(row, "price", 0) * near(row, "unit", 1);
}

/**
 * Return what price times quantity is to be multiplied with to be the value of a position: as it
 * is marked, else as its instrument is defined.
 */
export function valueFactor(position: Row, instrument: Row | undefined): number {
  const product = near(position, "mark", 0) * near(position, "quantity", 0);
  if (product !== 0) return near(position, "market_value", 0) / product;
  return near(instrument, "multiplier", 1) * near(instrument, "price_unit", 1);
}

/** Return the position after each deal or movement, the price then, and what they make. */
export function history(facts: readonly Row[], prices: readonly Row[], factor: number): Series {
  const marks = prices.filter((row) => MARKS.includes(row["kind"]));
  const steps = [
    ...facts.map((row) => ({ at: seconds(row), fact: row, price: null as number | null })),
    ...marks.map((row) => ({ at: seconds(row), fact: null, price: priceOf(row) })),
  ].sort((a, b) => a.at - b.at);
  const series: Series = { times: [], quantity: [], price: [], value: [] };
  let held = NONE;
  let price: number | null = null;
  for (const step of steps) {
    if (step.fact !== null) held = add(held, signed(step.fact));
    price = step.price ?? price;
    const quantity = approximate(held);
    const latest = series.times.length - 1;
    const at = series.times[latest] === step.at ? latest : latest + 1;
    series.times[at] = step.at;
    series.quantity[at] = quantity;
    series.price[at] = price;
    series.value[at] = price === null ? null : price * quantity * factor;
  }
  return series;
}
