/** Answers to a question that is asked again whenever what it is about has changed. */

import { createEffect, createSignal, on, onCleanup, type Accessor } from "solid-js";

import { Problem } from "./api";

export interface Answer<T> {
  /** The last one that was given; null before the first. */
  readonly value: T | null;
  readonly problem: string;
}

/** How many times as long as an answer took nothing is asked. */
const REST = 4;
const LEAST_REST_MS = 250;
const AFTER_FAULT_MS = 5_000;
const SERVER_FAULT = 500;

/**
 * Ask at once, and again when `changes` has changed: never two at a time, and where changes come
 * quicker than answers, only for the last of them.
 */
export function createAnswer<T>(
  changes: Accessor<unknown>,
  ask: (signal: AbortSignal, was: T | null) => Promise<T>,
): Accessor<Answer<T>> {
  const [answer, setAnswer] = createSignal<Answer<T>>({ value: null, problem: "" });
  const stop = new AbortController();
  let timer = 0;
  let isBusy = false;
  let isDue = false;
  const run = async () => {
    isBusy = true;
    isDue = false;
    const began = performance.now();
    let leastMs = LEAST_REST_MS;
    try {
      const value = await ask(stop.signal, answer().value);
      if (!stop.signal.aborted) setAnswer({ value, problem: "" });
    } catch (error) {
      if (stop.signal.aborted) return;
      setAnswer(({ value }) => ({ value, problem: (error as Error).message }));
      // What the server is not there for, or is at fault for, is asked again by itself.
      isDue ||= !(error instanceof Problem) || error.status >= SERVER_FAULT;
      leastMs = AFTER_FAULT_MS;
    }
    if (stop.signal.aborted) return;
    const next = () => {
      isBusy = false;
      if (isDue) void run();
    };
    timer = window.setTimeout(next, Math.max(leastMs, REST * (performance.now() - began)));
  };
  createEffect(
    on(changes, () => {
      isDue = true;
      if (!isBusy) void run();
    }),
  );
  onCleanup(() => {
    stop.abort();
    clearTimeout(timer);
  });
  return answer;
}
