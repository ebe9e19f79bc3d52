import { describe, expect, it } from "vitest";

import { add, compare, fixed, grouped, parse, rounded, shown } from "./decimal";

describe("decimals", () => {
  it("adds what floats cannot", () => {
    expect(grouped(add(parse("0.1"), parse("0.2")))).toBe("0.3");
    expect(grouped(add(parse("90071992547409930000"), parse("0.000000000000000001")))).toBe(
      "90,071,992,547,409,930,000.000000000000000001",
    );
  });

  it("rounds half-even, and below zero alike", () => {
    expect(grouped(rounded(parse("2.345"), 2))).toBe("2.34");
    expect(grouped(rounded(parse("2.355"), 2))).toBe("2.36");
    expect(grouped(rounded(parse("-2.345"), 2))).toBe("\u22122.34");
    expect(grouped(rounded(parse("-2.3451"), 2))).toBe("\u22122.35");
    expect(grouped(fixed(parse("-2.3451"), 2))).toBe("\u22122.35");
    expect(grouped(fixed(parse("12000"), 2))).toBe("12,000.00");
  });

  it("shows no more places than asked, and no fewer", () => {
    expect(shown("185.5000000000", 4, 2)).toBe("185.50");
    expect(shown("1234567", 2)).toBe("1,234,567");
    expect(shown("0.00000001", 8)).toBe("0.00000001");
    expect(shown("-1000", 2, 2)).toBe("\u22121,000.00");
  });

  it("compares by value", () => {
    expect(compare(parse("1.50"), parse("1.5"))).toBe(0);
    expect(compare(parse("-2"), parse("1"))).toBeLessThan(0);
  });

  it("refuses what is no decimal", () => {
    for (const text of ["", "1e5", "NaN", "1.", ".5", "1,000", " 1"]) {
      expect(() => parse(text)).toThrow(RangeError);
    }
  });
});
