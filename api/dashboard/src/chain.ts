/** What a subscription has seen: frames follow one another by `previous`, or something is missing. */

import type { Row } from "./api";

export interface RowsFrame {
  readonly op: "snapshot" | "delta";
  readonly id: number;
  readonly previous?: string;
  readonly position: string;
  readonly rows: Row[];
  readonly removed?: Row[];
}

export type Step = "replace" | "merge" | "gap";

/** Tell what a frame does to the rows that were there at `position`, null when there are none. */
export function step(position: string | null, frame: RowsFrame): Step {
  if (frame.op === "snapshot") return "replace";
  return position !== null && frame.previous === position ? "merge" : "gap";
}

/** Return how long to wait before the nth attempt to connect again, in milliseconds. */
export function backoffMs(attempt: number, random: number): number {
  const longest = Math.min(250 * 2 ** attempt, 5000);
  return longest / 2 + (longest / 2) * random;
}
