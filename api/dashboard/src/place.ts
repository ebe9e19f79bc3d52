/** What the page shows, kept in its address: so that a view can be kept, sent, and gone back to. */

import { createSignal, type Accessor } from "solid-js";

import type { Past } from "./api";

export interface Place extends Past {
  readonly tab: string;
  readonly account: string;
  readonly openOnly: boolean;
}

const START: Place = { tab: "positions", account: "", openOnly: true, asOf: "", knownAt: "" };

function read(): Place {
  const told = new URLSearchParams(location.hash.slice(1));
  return {
    tab: told.get("tab") ?? START.tab,
    account: told.get("account") ?? START.account,
    openOnly: told.get("closed") === null,
    asOf: told.get("as_of") ?? START.asOf,
    knownAt: told.get("known_at") ?? START.knownAt,
  };
}

function write(place: Place): string {
  const told = new URLSearchParams({ tab: place.tab });
  if (place.account !== "") told.set("account", place.account);
  if (!place.openOnly) told.set("closed", "shown");
  if (place.asOf !== "") told.set("as_of", place.asOf);
  if (place.knownAt !== "") told.set("known_at", place.knownAt);
  return `#${told.toString()}`;
}

export function createPlace(): [Accessor<Place>, (change: Partial<Place>) => void] {
  const [place, setPlace] = createSignal(read());
  window.addEventListener("popstate", () => setPlace(read()));
  const go = (change: Partial<Place>) => {
    const next = { ...place(), ...change };
    if (write(next) !== location.hash) history.pushState(null, "", write(next));
    setPlace(next);
  };
  return [place, go];
}

export function isPast(place: Past): boolean {
  return place.asOf !== "" || place.knownAt !== "";
}
