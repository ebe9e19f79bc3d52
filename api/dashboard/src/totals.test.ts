import { describe, expect, it } from "vitest";

import { grouped } from "./decimal";
import { Totals } from "./totals";

function shown(totals: Totals): Record<string, (string | null)[]> {
  return Object.fromEntries(
    totals.sums().map(({ currency, sums }) => [currency, sums.map((sum) => sum && grouped(sum))]),
  );
}

describe("totals", () => {
  it("are exact, by currency, of what is there", () => {
    const totals = new Totals();
    const row = { currency: "USD", market_value: "0.1", unrealised_pnl: null, fees: "-1" };
    totals.add(row);
    totals.add({ currency: "USD", market_value: "90071992547409930000.2", fees: "1.00" });
    totals.add({ currency: "EUR", realised_pnl: "-3" });
    expect(shown(totals)).toEqual({
      EUR: [null, null, "\u22123", null],
      USD: ["90,071,992,547,409,930,000.3", null, null, "0.00"],
    });
  });

  it("forget what is gone", () => {
    const totals = new Totals();
    const rows = ["0.10", "2.2"].map((value) => ({ currency: "USD", market_value: value }));
    for (const row of rows) totals.add(row);
    totals.remove(rows[0]!);
    expect(shown(totals)).toEqual({ USD: ["2.20", null, null, null] });
    totals.remove(rows[1]!);
    expect(shown(totals)).toEqual({});
  });
});
