import { expect, it } from "vitest";

import { history, valueFactor } from "./history";

const deal = (time: string, side: string, quantity: string, status = "effective") => ({
  event_time: time,
  side,
  quantity,
  status,
});

it("adds deals and movements up in time, without those that were busted", () => {
  const series = history(
    [
      deal("2024-01-03T10:00:00Z", "sell", "40"),
      deal("2024-01-02T10:00:00Z", "buy", "100"),
      deal("2024-01-02T11:00:00Z", "buy", "7", "busted"),
      { event_time: "2024-01-02T21:00:00Z", quantity: "100", status: "effective" },
    ],
    [{ event_time: "2024-01-02T21:00:00Z", price: "2.5", kind: "close", unit: "1" }],
    1,
  );
  expect(series.quantity).toEqual([100, 100, 200, 160]);
  expect(series.price).toEqual([null, null, 2.5, 2.5]);
  expect(series.value).toEqual([null, null, 500, 400]);
});

it("values as the ledger does: by its marks, in their unit, with what a contract is of", () => {
  const price = (time: string, kind: string, told: string) => ({
    event_time: time,
    price: told,
    kind,
    unit: "0.01",
  });
  const series = history(
    [deal("2024-01-02T10:00:00Z", "buy", "3")],
    [price("2024-01-02T11:00:00Z", "bid", "900"), price("2024-01-02T12:00:00Z", "mid", "1000")],
    50,
  );
  expect(series.price).toEqual([null, 10]);
  expect(series.value).toEqual([null, 1500]);
});

it("takes what a contract is of from the position, else from the instrument", () => {
  const future = { multiplier: "50", price_unit: "1" };
  expect(valueFactor({ mark: "98", quantity: "-20000", market_value: "-19600" }, future)).toBe(
    0.01,
  );
  expect(valueFactor({ mark: null, quantity: "2", market_value: null }, future)).toBe(50);
  expect(valueFactor({ mark: "5000", quantity: "0", market_value: "0" }, future)).toBe(50);
  expect(valueFactor({ mark: null, quantity: "2", market_value: null }, undefined)).toBe(1);
});
