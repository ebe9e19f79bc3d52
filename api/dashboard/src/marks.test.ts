import { beforeEach, expect, it, vi } from "vitest";

import { MARK, touched } from "./marks";
import { Rows } from "./store";

const position = (account: string, instrument: string, quantity: string, mark: string) => ({
  account,
  instrument,
  quantity,
  mark,
  market_value: mark,
  unrealised_pnl: "0",
  mark_time: null,
  flags: [],
});

beforeEach(() => vi.stubGlobal("requestAnimationFrame", () => 0));

it("finds who holds what was priced", () => {
  const rows = [
    position("A1", "AAPL", "1", "2"),
    position("A1", "MSFT", "1", "2"),
    position("B2", "AAPL", "1", "2"),
    position("B2", "IBM", "1", "2"),
  ];
  const found = touched(rows, new Set(["AAPL", "MSFT", "XYZ"]));
  expect([...found].map(([account, held]) => [account, ...held])).toEqual([
    ["A1", "AAPL", "MSFT"],
    ["B2", "AAPL"],
  ]);
});

it("takes marks alone, and none of a row that the feed has told anew", () => {
  const store = new Rows(["account", "instrument"]);
  store.replace([position("A1", "AAPL", "1", "2"), position("A1", "MSFT", "5", "7")]);
  store.remark(
    [
      position("A1", "AAPL", "1", "3"),
      position("A1", "MSFT", "4", "8"),
      position("A1", "IBM", "1", "1"),
    ],
    MARK,
  );
  expect([...store.byKey.values()].map(({ mark }) => mark)).toEqual(["3", "7"]);
  expect([...store.changed.keys()]).toEqual(["A1\u0000AAPL"]);
});
