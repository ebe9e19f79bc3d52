/** Whether what is shown is live: the feed's state, position, lag and losses. */

import { createResource, createSignal, onCleanup, Show } from "solid-js";

import type { Feed, State } from "./feed";

const WORDS: Record<State, string> = {
  connecting: "connecting",
  live: "live",
  waiting: "reconnecting",
  refused: "refused",
};
const ASK_MS = 5_000;

interface Ready {
  readonly projections?: readonly { readonly lag: number }[];
}

/** Return how many records the projection furthest behind has not read; null when not told. */
async function lag(): Promise<number | null> {
  const response = await fetch("/readyz");
  const { projections } = (await response.json()) as Ready;
  return projections === undefined ? null : Math.max(0, ...projections.map((one) => one.lag));
}

export function HealthMark(props: { readonly feed: Feed; readonly past: boolean }) {
  const [open, setOpen] = createSignal(false);
  const [records, { refetch }] = createResource(open, () => lag().catch(() => null));
  const timer = setInterval(() => {
    if (open()) void refetch();
  }, ASK_MS);
  onCleanup(() => clearInterval(timer));
  const health = props.feed.health;
  const word = () => (props.past ? "past" : WORDS[health().state]);
  return (
    <div class="health">
      <button
        type="button"
        class={`mark ${props.past ? "past" : health().state}`}
        aria-label={`Feed: ${word()}`}
        aria-expanded={open()}
        aria-controls="health"
        onClick={() => setOpen(!open())}
      >
        <span class="dot" aria-hidden="true" />
        <span role="status">{word()}</span>
      </button>
      <Show when={open()}>
        <dl id="health" class="popover">
          <dt>Feed</dt>
          <dd>{WORDS[health().state]}</dd>
          <dt>Position</dt>
          <dd class="position">{health().position || "none yet"}</dd>
          <dt>Read models behind</dt>
          <dd>
            {records() === null || records() === undefined
              ? "not known"
              : `${records()!.toLocaleString("en")} records`}
          </dd>
          <dt>Updates received</dt>
          <dd>{health().frames.toLocaleString("en")}</dd>
          <dt>Reconnects</dt>
          <dd>{health().reconnects}</dd>
          <dt>Gaps closed</dt>
          <dd>{health().gaps}</dd>
          <Show when={health().reason !== ""}>
            <dt>Last said</dt>
            <dd>{health().reason}</dd>
          </Show>
        </dl>
      </Show>
    </div>
  );
}
