import { beforeEach, describe, expect, it, vi } from "vitest";

import type { Row } from "./api";
import { Rows } from "./store";

const frame = (op: "snapshot" | "delta", ...rows: Row[]) =>
  ({ op, id: 1, position: "0:1", rows }) as const;
const row = (id: string, price = "1") => ({ account: "A1", id, price });

describe("the rows of a table", () => {
  beforeEach(() => {
    vi.stubGlobal("requestAnimationFrame", (run: () => void) => run());
  });

  it("are all new at first, and then what has changed is told once", () => {
    const store = new Rows(["id"]);
    const [one, two, three] = [row("1"), row("2"), row("3")];
    store.apply(frame("snapshot", one, two), "");
    expect(store.changes()).toBeNull();
    const [other, another] = [row("1", "2"), row("1", "3")];
    store.apply(frame("delta", other, three), "");
    store.apply(frame("delta", another), "");
    expect(store.changes()).toEqual({ gone: new Set([one]), fresh: new Set([three, another]) });
    expect(store.changes()).toEqual({ gone: new Set(), fresh: new Set() });
    store.forget("A1");
    const gone = new Set([another, two, three]);
    expect(store.changes()).toEqual({ gone, fresh: new Set() });
    store.apply(frame("snapshot", one), "");
    expect(store.changes()).toBeNull();
  });

  it("keep their place when they are replaced", () => {
    const store = new Rows(["id"]);
    const [one, two, other] = [row("1"), row("2"), row("1", "2")];
    store.apply(frame("snapshot", one, two), "");
    store.apply(frame("delta", other), "");
    expect(store.before(other, two)).toBeLessThan(0);
    expect(store.accountCount()).toBe(1);
  });
});
