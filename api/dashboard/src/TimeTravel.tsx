/** Puts the whole page in the past: what was true then, and what the ledger knew then. */

import { createEffect, createSignal, Show } from "solid-js";

import { isPast, type Place } from "./place";

interface Props {
  readonly place: Place;
  readonly go: (change: Partial<Place>) => void;
}

const DAY = /^\d{4}-\d{2}-\d{2}$/;
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/;
const VECTOR = /^((prices|reference)\/)?\d+:\d+(,((prices|reference)\/)?\d+:\d+)*$/;

function fault(text: string, vectors: boolean): string {
  if (text === "" || DAY.test(text) || INSTANT.test(text)) return "";
  if (vectors && VECTOR.test(text)) return "";
  const positions = vectors ? ", or positions like 3:55,11:4" : "";
  return `a date like 2024-01-05, an instant like 2024-01-05T16:00:00Z${positions}`;
}

export function TimeTravel(props: Props) {
  const [asOf, setAsOf] = createSignal(props.place.asOf);
  const [knownAt, setKnownAt] = createSignal(props.place.knownAt);
  createEffect(() => {
    setAsOf(props.place.asOf);
    setKnownAt(props.place.knownAt);
  });
  const faults = () => ({ asOf: fault(asOf(), false), knownAt: fault(knownAt(), true) });
  const submit = (event: Event) => {
    event.preventDefault();
    if (faults().asOf === "" && faults().knownAt === "") {
      props.go({ asOf: asOf(), knownAt: knownAt() });
    }
  };
  const now = () => props.go({ asOf: "", knownAt: "" });

  return (
    <form class="time" onSubmit={submit} aria-label="Time of the book">
      <label>
        As of
        <input
          name="as_of"
          placeholder="now"
          autocomplete="off"
          spellcheck={false}
          value={asOf()}
          aria-invalid={faults().asOf !== ""}
          title={faults().asOf || "What was true then: a date or an instant"}
          onInput={(event) => setAsOf(event.currentTarget.value.trim())}
        />
      </label>
      <label>
        Known at
        <input
          name="known_at"
          placeholder="now"
          autocomplete="off"
          spellcheck={false}
          value={knownAt()}
          aria-invalid={faults().knownAt !== ""}
          title={faults().knownAt || "What the ledger knew then: a date, an instant, positions"}
          onInput={(event) => setKnownAt(event.currentTarget.value.trim())}
        />
      </label>
      <button type="submit">Go</button>
      <Show when={isPast(props.place)}>
        <button type="button" class="primary" onClick={now}>
          Now
        </button>
      </Show>
      <Show when={faults().asOf || faults().knownAt}>
        <p class="fault" role="alert">
          Expected {faults().asOf || faults().knownAt}
        </p>
      </Show>
    </form>
  );
}
