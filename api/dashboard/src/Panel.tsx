/** One read model: its rows as a table, filtered and sorted, with totals where they mean something. */

import { createMemo, createSignal, For, Show, type Accessor } from "solid-js";

import type { Row } from "./api";
import type { Column, Model } from "./columns";
import { compare, grouped, parse, rounded, total } from "./decimal";
import { sorted } from "./sorted";
import type { Source } from "./source";
import { Table, type Sort } from "./Table";

interface Props {
  readonly model: Model;
  readonly source: Source;
  readonly filter: Accessor<string>;
  readonly openOnly: Accessor<boolean>;
  readonly selected: string | null;
  readonly onOpen: (row: Row, column: Column | null) => void;
}

const TOTALS = ["market_value", "unrealised_pnl", "realised_pnl", "fees"] as const;
const TITLES = { market_value: "Value", unrealised_pnl: "Unrealised", realised_pnl: "Realised" };
const ZERO = parse("0");
const OPEN_STATUSES = new Set([
  "new",
  "partially_filled",
  "pending_new",
  "pending_cancel",
  "pending_replace",
  "suspended",
  "stopped",
]);

function isOpen(model: Model, row: Row): boolean {
  if (model.topic === "positions") return compare(parse(String(row["quantity"])), ZERO) !== 0;
  if (model.topic === "orders") return OPEN_STATUSES.has(String(row["status"]));
  return true;
}

function text(row: Row, name: string): string | null {
  const value = row[name];
  return value === null || value === undefined ? null : String(value);
}

function Totals(props: { readonly rows: readonly Row[] }) {
  const byCurrency = createMemo(() => {
    const currencies = [...new Set(props.rows.map((row) => String(row["currency"])))].sort();
    return currencies.map((currency) => {
      const rows = props.rows.filter((row) => row["currency"] === currency);
      const sums = TOTALS.map((name) => total(rows.map((row) => text(row, name))));
      return { currency, sums };
    });
  });
  return (
    <ul class="totals" aria-label="Totals of the rows shown">
      <For each={byCurrency()}>
        {({ currency, sums }) => (
          <li>
            <b>{currency}</b>
            <For each={TOTALS}>
              {(name, index) => (
                <Show when={sums[index()]}>
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
                        {grouped(rounded(sum(), 2))}
                      </data>
                    </span>
                  )}
                </Show>
              )}
            </For>
          </li>
        )}
      </For>
    </ul>
  );
}

export function Panel(props: Props) {
  const [sort, setSort] = createSignal<Sort>(props.model.sort);
  const keep = createMemo(() => {
    const open = props.openOnly();
    return (row: Row) => !open || isOpen(props.model, row);
  });
  const rows = sorted(props.model, props.source.store, sort, props.filter, keep);
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
        </span>
        <Show when={props.model.topic === "positions"}>
          <Totals rows={rows()} />
        </Show>
      </footer>
    </section>
  );
}
