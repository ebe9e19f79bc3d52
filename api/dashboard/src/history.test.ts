import { expect, it } from "vitest";

import { history } from "./history";

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
    [{ event_time: "2024-01-02T21:00:00Z", price: "2.5" }],
  );
  expect(series.quantity).toEqual([100, 100, 200, 160]);
  expect(series.price).toEqual([null, null, 2.5, 2.5]);
  expect(series.value).toEqual([null, null, 500, 400]);
});
