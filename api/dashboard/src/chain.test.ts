import { describe, expect, it } from "vitest";

import { backoffMs, step, type RowsFrame } from "./chain";

const delta = (previous: string): RowsFrame => ({
  op: "delta",
  id: 1,
  previous,
  position: "b",
  rows: [],
});

describe("the chain of frames", () => {
  it("merges what follows, and finds a gap", () => {
    expect(step("a", delta("a"))).toBe("merge");
    expect(step("a", delta("0"))).toBe("gap");
    expect(step(null, delta("a"))).toBe("gap");
  });

  it("takes a snapshot at any time", () => {
    const snapshot: RowsFrame = { op: "snapshot", id: 1, position: "x", rows: [] };
    expect(step("a", snapshot)).toBe("replace");
    expect(step(null, snapshot)).toBe("replace");
  });

  it("waits longer each time, up to five seconds", () => {
    expect(backoffMs(0, 1)).toBe(250);
    expect(backoffMs(3, 0)).toBe(1000);
    expect(backoffMs(50, 1)).toBe(5000);
  });
});
