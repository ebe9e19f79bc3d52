/** How a position came about: its deals and movements added up, beside the prices of the time. */

import type { Row } from "./api";
import type { Series } from "./Chart";
import { add, approximate, negate, parse, type Decimal } from "./decimal";

const NONE: Decimal = { units: 0n, scale: 0 };

function seconds(row: Row): number {
  return Date.parse(String(row["event_time"])) / 1000;
}

/** Return the signed quantity of a deal or a movement; what was busted or reversed has none. */
function signed(fact: Row): Decimal {
  if (fact["status"] === "busted" || fact["status"] === "reversed") return NONE;
  const quantity = parse(String(fact["quantity"]));
  return fact["side"] === "sell" ? negate(quantity) : quantity;
}

/** Return the position after each deal or movement, the price then, and what they make. */
export function history(facts: readonly Row[], prices: readonly Row[]): Series {
  const steps = [
    ...facts.map((row) => ({ at: seconds(row), fact: row, price: null as number | null })),
    ...prices.map((row) => ({ at: seconds(row), fact: null, price: Number(row["price"]) })),
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
    series.value[at] = price === null ? null : price * quantity;
  }
  return series;
}
