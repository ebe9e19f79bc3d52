/** How a position came about: its deals added up, beside the prices of the time. */

import type { Row } from "./api";
import type { Series } from "./Chart";
import { add, approximate, negate, parse, type Decimal } from "./decimal";

const NONE: Decimal = { units: 0n, scale: 0 };

function seconds(row: Row): number {
  return Date.parse(String(row["event_time"])) / 1000;
}

/** Return the signed quantity of a deal; a busted one has none. */
function signed(deal: Row): Decimal {
  if (deal["status"] === "busted") return NONE;
  const quantity = parse(String(deal["quantity"]));
  return deal["side"] === "sell" ? negate(quantity) : quantity;
}

/** Return the position after each deal, the price at each time, and what they make. */
export function history(deals: readonly Row[], prices: readonly Row[]): Series {
  const steps = [
    ...deals.map((row) => ({ at: seconds(row), deal: row, price: null as number | null })),
    ...prices.map((row) => ({ at: seconds(row), deal: null, price: Number(row["price"]) })),
  ].sort((a, b) => a.at - b.at);
  const series: Series = { times: [], quantity: [], price: [], value: [] };
  let held = NONE;
  let price: number | null = null;
  for (const step of steps) {
    if (step.deal !== null) held = add(held, signed(step.deal));
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
