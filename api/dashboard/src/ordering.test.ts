import { describe, expect, it } from "vitest";

import type { Row } from "./api";
import { DEALS } from "./columns";
import { merged, order, ordered } from "./ordering";

const column = (name: string) => DEALS.columns.find((one) => one.name === name)!;
/** A generator of numbers that are the same in every run. */
function draws(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

describe("the order of rows", () => {
  it("is that of values, to the last digit, and what is absent is last both ways", () => {
    const told = ["9", "10", "-2.5", "1.50", "1.5", "9007199254740993.1", "9007199254740993.2"];
    const rows: Row[] = [{ price: null }, ...told.map((price) => ({ price })), {}];
    const prices = (descending: boolean) =>
      ordered(rows, column("price"), descending).map((row) => row["price"]);
    const sorted = ["-2.5", "1.50", "1.5", "9", "10", "9007199254740993.1", "9007199254740993.2"];
    expect(prices(false)).toEqual([...sorted, null, undefined]);
    // What is equal stays in the order in which it came.
    const falling = ["9007199254740993.2", "9007199254740993.1", "10", "9", "1.50", "1.5", "-2.5"];
    expect(prices(true)).toEqual([...falling, null, undefined]);
  });

  it("is the same when rows are put in their places as when all are sorted", () => {
    const draw = draws(7);
    const absent = [null, undefined];
    for (const name of ["price", "instrument"]) {
      for (const descending of [false, true]) {
        const ordinals = new Map<Row, number>();
        const make = (ordinal: number): Row => {
          const told = draw(10) === 0 ? absent[draw(2)] : `${draw(20)}.${draw(3)}0`;
          const row = { [name]: told } as Row;
          ordinals.set(row, ordinal);
          return row;
        };
        let all = Array.from({ length: 200 }, (_, index) => make(index));
        let rows = ordered(all, column(name), descending);
        const compared = order(
          column(name),
          descending,
          (a, b) => ordinals.get(a)! - ordinals.get(b)!,
        );
        for (let round = 0; round < 15; round++) {
          const gone = new Set(all.filter(() => draw(20) === 0));
          const replaced = all.map((row) => (gone.has(row) ? make(ordinals.get(row)!) : row));
          const more = Array.from({ length: draw(3) }, () => make(ordinals.size));
          const fresh = [...replaced.filter((row, index) => row !== all[index]), ...more];
          all = [...replaced, ...more];
          rows = merged(rows, gone, fresh, compared);
          expect(rows).toEqual(ordered(all, column(name), descending));
        }
      }
    }
  });
});
