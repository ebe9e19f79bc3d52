/** The page: one account or all, one table at a time, now or in the past. */

import { createEffect, createMemo, createSignal, For, onCleanup, onMount, Show } from "solid-js";

import { createAccounts } from "./accounts";
import { keepToken, type Row } from "./api";
import type { Opened } from "./behind";
import { MODELS, type Column, type Model } from "./columns";
import { Detail } from "./Detail";
import { Feed } from "./feed";
import { HealthMark } from "./Health";
import { keepMarked } from "./marks";
import { Panel } from "./Panel";
import { createPlace, isPast } from "./place";
import { createSource } from "./source";
import { Ticket } from "./Ticket";
import { TimeTravel } from "./TimeTravel";

type Theme = "auto" | "light" | "dark";

const THEME = "daybook-theme";
/** Where there is no room beside the table, what is opened covers it. */
const NARROW = "(max-width: 820px)";

function TokenForm(props: { readonly given: () => void; readonly reason: string }) {
  let input!: HTMLInputElement;
  const submit = (event: Event) => {
    event.preventDefault();
    keepToken(input.value.trim());
    props.given();
  };
  return (
    <form class="token" onSubmit={submit}>
      <h2>A token is needed</h2>
      <p>{props.reason}</p>
      <p>
        Print one with <code>daybook token</code>. It is kept until this tab is closed.
      </p>
      <input ref={input} type="password" aria-label="Token" required autocomplete="off" />
      <button type="submit" class="primary">
        Use it
      </button>
    </form>
  );
}

function createTheme(): [() => Theme, () => void] {
  const [theme, setTheme] = createSignal<Theme>((localStorage.getItem(THEME) as Theme) ?? "auto");
  const show = () => {
    if (theme() === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset["theme"] = theme();
  };
  show();
  const next: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
  return [
    theme,
    () => {
      setTheme(next[theme()]);
      localStorage.setItem(THEME, theme());
      show();
    },
  ];
}

/** Tell whether nothing has changed about what is opened. */
function isSame(a: Opened | null, b: Opened | null): boolean {
  return a?.model === b?.model && a?.row === b?.row && a?.column === b?.column;
}

export function App() {
  const [place, go] = createPlace();
  const [theme, nextTheme] = createTheme();
  const [filter, setFilter] = createSignal("");
  const [opened, setOpened] = createSignal<Opened | null>(null);
  const [ticket, setTicket] = createSignal(false);
  const feed = new Feed();
  onCleanup(() => feed.rest());
  const own = createAccounts(feed);
  const model = createMemo(() => MODELS.find(({ topic }) => topic === place().tab) ?? MODELS[0]!);
  const sources = new Map(
    MODELS.map((one) => [one.topic, createSource(one, feed, place, own, () => model() === one)]),
  );
  const live = createMemo(() => feed.health().state === "live");
  keepMarked(sources.get("positions")!.store, place, live);
  const accounts = createMemo(
    () => {
      const told = new Set(own.listed());
      for (const { store } of sources.values()) {
        store.accountCount();
        for (const name of store.accounts) told.add(name);
      }
      return [...told].sort();
    },
    [],
    { equals: (a, b) => a.length === b.length },
  );
  const past = () => isPast(place());
  const selected = () => {
    const told = opened();
    return told === null ? null : sources.get(told.model.topic)!.store.keyOf(told.row);
  };
  /** The opened row as it is in what is shown: it goes on living while it is looked at. */
  const current = createMemo(
    () => {
      const told = opened();
      if (told === null) return null;
      const { store } = sources.get(told.model.topic)!;
      store.version();
      const row = store.byKey.get(store.keyOf(told.row));
      return row === undefined ? null : { ...told, row };
    },
    null,
    { equals: isSame },
  );
  const currentKey = () => {
    const told = current();
    return told && [told.model.topic, selected(), place().asOf, place().knownAt].join("\n");
  };
  // Orders are placed now, whatever time is looked at.
  createEffect(() => past() && setTicket(false));
  let main!: HTMLElement;
  const open = (model: Model, row: Row, column: Column | null) => {
    setTicket(false);
    setOpened({ model, row, column: column?.name ?? null });
    // Who clicks beside the table goes on in it.
    if (column !== null && !matchMedia(NARROW).matches) return;
    main.querySelector<HTMLElement>(".detail")?.focus();
  };
  const close = () => {
    setTicket(false);
    setOpened(null);
    main.querySelector<HTMLElement>(".table")?.focus();
  };

  let search!: HTMLInputElement;
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") {
      close();
      return;
    }
    const typing = "input:not([type=checkbox], [type=radio]), select";
    if (event.target instanceof Element && event.target.closest(typing) !== null) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tab = MODELS[Number(event.key) - 1];
    if (tab !== undefined) go({ tab: tab.topic });
    else if (event.key === "/") search.focus();
    else if (event.key === "t" && !past()) setTicket(true);
    else return;
    event.preventDefault();
  };
  onMount(() => document.addEventListener("keydown", onKeyDown));
  onCleanup(() => document.removeEventListener("keydown", onKeyDown));

  return (
    <div class="page" classList={{ past: past() }}>
      <header class="bar">
        <h1>Daybook</h1>
        <label>
          <span class="unseen">Account</span>
          <select
            aria-label="Account"
            value={place().account}
            onFocus={() => own.refresh()}
            onChange={(event) => go({ account: event.currentTarget.value })}
          >
            <option value="">{own.isLimited() ? "All of mine" : "All accounts"}</option>
            <For each={accounts()}>
              {(name) => (
                <option value={name} selected={name === place().account}>
                  {name}
                </option>
              )}
            </For>
          </select>
        </label>
        <TimeTravel place={place()} go={go} />
        <span class="space" />
        <Show when={!past()}>
          <button type="button" class="primary" onClick={() => setTicket(true)}>
            New order <kbd>t</kbd>
          </button>
        </Show>
        <button
          type="button"
          onClick={nextTheme}
          aria-label={`Colours: ${theme()}`}
          title={`Colours: ${theme()}`}
        >
          {theme() === "dark" ? "☾" : theme() === "light" ? "☀" : "◐"}
        </button>
        <HealthMark feed={feed} past={past()} />
      </header>
      <Show when={past()}>
        <p class="banner" role="status">
          This is the past
          {place().asOf === "" ? "" : `: what was true as of ${place().asOf}`}
          {place().knownAt === "" ? "" : `, as the ledger knew it at ${place().knownAt}`}. Nothing
          here moves.
        </p>
      </Show>
      <nav class="tabs">
        <div role="tablist" aria-label="Read models">
          <For each={MODELS}>
            {(one, index) => (
              <button
                type="button"
                role="tab"
                id={`tab-${one.topic}`}
                aria-controls={`panel-${one.topic}`}
                aria-selected={model() === one}
                onClick={() => go({ tab: one.topic })}
              >
                {one.title} <kbd>{index() + 1}</kbd>
              </button>
            )}
          </For>
        </div>
        <span class="space" />
        <Show when={model().open !== undefined}>
          <label class="check">
            <input
              type="checkbox"
              checked={place().openOnly}
              onChange={(event) => go({ openOnly: event.currentTarget.checked })}
            />
            open only
          </label>
        </Show>
        <input
          ref={search}
          class="filter"
          type="search"
          placeholder="Filter  /"
          aria-label="Filter the rows"
          value={filter()}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      </nav>
      <Show
        when={own.refused()}
        fallback={
          <main ref={main} classList={{ split: current() !== null || ticket() }}>
            <Show when={model()} keyed>
              {(one) => (
                <Panel
                  model={one}
                  source={sources.get(one.topic)!}
                  filter={filter}
                  openOnly={() => place().openOnly}
                  selected={selected()}
                  onOpen={(row, column) => open(one, row, column)}
                />
              )}
            </Show>
            <Show when={!ticket() && currentKey()} keyed>
              <Detail opened={current()!} past={place()} close={close} />
            </Show>
            <Show when={ticket()}>
              <Ticket
                accounts={accounts()}
                account={place().account || String(current()?.row["account"] ?? "")}
                instrument={String(current()?.row["instrument"] ?? "")}
                close={close}
              />
            </Show>
          </main>
        }
      >
        {(problem) => <TokenForm reason={problem().message} given={own.ask} />}
      </Show>
    </div>
  );
}
