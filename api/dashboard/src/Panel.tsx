/** One read model: its rows as a table, filtered and sorted, with totals where they mean something. */

import { createMemo, createSignal, For, Index, Show, type Accessor } from "solid-js";

import type { Row } from "./api";
import type { Column, Model } from "./columns";
import { fixed, grouped } from "./decimal";
import { sorted, type Shown } from "./sorted";
import type { Source } from "./source";
import { Table, type Sort } from "./Table";
import { Totals, TOTALS, type Sums } from "./totals";

interface Props {
  readonly model: Model;
  readonly source: Source;
  readonly filter: Accessor<string>;
  readonly openOnly: Accessor<boolean>;
  readonly selected: string | null;
  readonly onOpen: (row: Row, column: Column | null) => void;
}

const TITLES = { market_value: "Value", unrealised_pnl: "Unrealised", realised_pnl: "Realised" };
const OPEN_STATUSES = new Set([
  "new",
  "accepted_for_bidding",
  "partially_filled",
  "pending_new",
  "pending_cancel",
  "pending_replace",
  "suspended",
  "stopped",
]);

function isOpen(model: Model, row: Row): boolean {
  if (model.topic === "positions") return /[1-9]/.test(String(row["quantity"]));
  if (model.topic === "orders") return OPEN_STATUSES.has(String(row["status"]));
  return true;
}

/** Return the sums of the rows that are shown: what comes and goes is added and taken off. */
function createSums(shown: Accessor<Shown>): Accessor<readonly Sums[]> {
  let totals = new Totals();
  return createMemo(() => {
    const { rows, isNew, gone, fresh } = shown();
    if (isNew) totals = new Totals();
    else for (const row of gone) totals.remove(row);
    for (const row of isNew ? rows : fresh) totals.add(row);
    return totals.sums();
  });
}

function TotalsBar(props: { readonly shown: Accessor<Shown> }) {
  const byCurrency = createSums(props.shown);
  return (
    <ul class="totals" aria-label="Totals of the rows shown">
      <Index each={byCurrency()}>
        {(told) => (
          <li>
            <b>{told().currency}</b>
            <For each={TOTALS}>
              {(name, index) => (
                <Show when={told().sums[index()]}>
                  {(sum) => (
                    <span>
                      {name === "fees" ? "Fees" : TITLES[name]}{" "}
                      <data
                        value={grouped(sum())}
                        class={
                          name === "unrealised_pnl" || name === "realised_pnl"
                            ? sum().units < 0n
                              ? "loss"
                              : "gain"
                            : ""
                        }
                      >
                        {grouped(fixed(sum(), 2))}
                      </data>
                    </span>
                  )}
                </Show>
              )}
            </For>
          </li>
        )}
      </Index>
    </ul>
  );
}

export function Panel(props: Props) {
  const [sort, setSort] = createSignal<Sort>(props.model.sort);
  const openOnly = createMemo(() => props.openOnly());
  const keep = createMemo(() => {
    const open = openOnly();
    return (row: Row) => !open || isOpen(props.model, row);
  });
  const shown = sorted(props.model, props.source.store, sort, props.filter, keep);
  const rows = () => shown().rows;
  const known = () => {
    props.source.store.version();
    return props.source.store.byKey.size;
  };
  const onSort = (name: string) =>
    setSort((was) => ({ name, descending: was.name === name ? !was.descending : false }));

  return (
    <section
      class="panel"
      id={`panel-${props.model.topic}`}
      role="tabpanel"
      aria-labelledby={`tab-${props.model.topic}`}
    >
      <Show when={props.source.problem() !== ""}>
        <p class="fault" role="alert">
          {props.source.problem()}
        </p>
      </Show>
      <Table
        label={props.model.title}
        columns={props.model.columns}
        rows={rows()}
        keyOf={(row) => props.source.store.keyOf(row)}
        rowOf={(key) => props.source.store.byKey.get(key)}
        changed={props.source.store.changed}
        sort={sort()}
        onSort={onSort}
        selected={props.selected}
        onOpen={props.onOpen}
        empty={
          props.source.loading()
            ? "Loading"
            : props.filter() !== ""
              ? `Nothing has ${props.filter()} in it.`
              : props.openOnly() && props.model.open !== undefined && known() > 0
                ? `No ${props.model.open}; closed: ${known().toLocaleString("en")}.`
                : "Nothing here yet. Import a file, and it appears."
        }
      />
      <footer class="foot">
        <span>
          {rows().length.toLocaleString("en")} {rows().length === 1 ? "row" : "rows"}
          {props.source.isWhole() ? "" : ": not all there are, for these are too many to show"}
        </span>
        <Show when={props.model.topic === "positions"}>
          <TotalsBar shown={shown} />
        </Show>
      </footer>
    </section>
  );
}
