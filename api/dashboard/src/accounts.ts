/** Which accounts there are to be looked at, and whether a token is needed to be told. */

import {
  createEffect,
  createMemo,
  createResource,
  createSignal,
  on,
  type Accessor,
} from "solid-js";

import { Problem, rows as fetchRows } from "./api";
import type { Feed } from "./feed";

/** Whose rows may be looked at. */
export interface Accounts {
  /** Those there are, as they were told last; undefined before. */
  readonly listed: Accessor<readonly string[] | undefined>;
  /** Why they could not be told. */
  readonly problem: Accessor<string>;
  /** Why they are not told without another token. */
  readonly refused: Accessor<Problem | null>;
  /** Whether all of them may not be followed as one: then each is by itself. */
  readonly isLimited: Accessor<boolean>;
  readonly limit: () => void;
  readonly refresh: () => void;
  /** Ask again, as somebody else. */
  readonly ask: () => void;
}

const UNAUTHORIZED = 401;

/** Ask which accounts there are: at first, and whenever the feed was lost or is there again. */
export function createAccounts(feed: Feed): Accounts {
  const [answer, { refetch }] = createResource(() => fetchRows("/v1/accounts"));
  const [isLimited, setLimited] = createSignal(false);
  const listed = createMemo<readonly string[] | undefined>(
    (was) => (answer.error ? was : (answer()?.rows.map((row) => String(row["account"])) ?? was)),
    undefined,
    { equals: (a, b) => a?.join("\n") === b?.join("\n") },
  );
  const problem = () => (answer.error ? (answer.error as Error).message : "");
  const refused = createMemo(() => {
    const error: unknown = answer.error;
    return error instanceof Problem && error.status === UNAUTHORIZED ? error : null;
  });
  const refresh = () => void refetch();
  const state = createMemo(() => feed.health().state);
  const losses = createMemo(() => feed.health().losses);
  // A browser does not tell that a socket was refused for its token; the answer to this does.
  createEffect(
    on([state, losses], ([, lost]) => lost > 0 && refused() === null && refresh(), { defer: true }),
  );
  createEffect(
    on(refused, (now, was) => {
      if (now) feed.rest();
      else if (was) feed.reconnect();
    }),
  );
  const ask = () => {
    setLimited(false);
    refresh();
  };
  const limit = () => setLimited(true);
  return { listed, problem, refused, isLimited, limit, refresh, ask };
}
