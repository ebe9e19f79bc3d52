/** What is behind a row: its exact numbers, its lots, its chart, and the events that made it. */

import { createMemo, createResource, createSignal, For, lazy, Show, Suspense } from "solid-js";

import { ofAccount, pastParameters, rows as fetchRows, type Past, type Row } from "./api";
import { display, isNumber, type Column, type Model } from "./columns";
import { grouped, parse } from "./decimal";
import { history } from "./history";
import { tone } from "./Table";

const Chart = lazy(() => import("./Chart").then(({ Chart }) => ({ default: Chart })));

export interface Opened {
  readonly model: Model;
  readonly row: Row;
  /** The column whose number was asked about, if one was. */
  readonly column: string | null;
}

interface Props {
  readonly opened: Opened;
  readonly past: Past;
  readonly close: () => void;
}

/** The parameter by which the events of a row are asked for, and the column that it is told. */
const ABOUT: Record<string, readonly [string, string]> = {
  positions: ["instrument", "instrument"],
  orders: ["order", "order_id"],
  deals: ["deal", "deal_id"],
  balances: ["currency", "currency"],
};
const MOST_EVENTS = 10_000;
const SHOWN_EVENTS = 200;

function text(row: Row, name: string): string {
  return String(row[name] ?? "");
}

async function eventsOf(opened: Opened, past: Past): Promise<Row[]> {
  const { model, row } = opened;
  const told = { account: text(row, "account"), known_at: past.knownAt };
  const [parameter, column] = ABOUT[model.topic]!;
  const about = { [parameter]: text(row, column) };
  return fetchRows("/v1/events", { ...told, ...about }, undefined, MOST_EVENTS);
}

async function chartOf(opened: Opened, past: Past) {
  const { row } = opened;
  const account = text(row, "account");
  const told = { ...pastParameters(past), instrument: text(row, "instrument") };
  const [deals, movements, prices] = await Promise.all([
    fetchRows(ofAccount(account, "deals"), told),
    fetchRows(ofAccount(account, "movements"), told),
    fetchRows("/v1/prices", told),
  ]);
  return history([...deals, ...movements], prices);
}

async function lotsOf(opened: Opened, past: Past): Promise<Row[]> {
  const { row } = opened;
  const told = { ...pastParameters(past), instrument: text(row, "instrument") };
  const lots = await fetchRows(ofAccount(text(row, "account"), "lots"), told);
  return lots.filter(
    (lot) => lot["instrument"] === row["instrument"] && lot["currency"] === row["currency"],
  );
}

/** Return a value of a row with all its digits. */
function exact(row: Row, column: Column): string {
  if (isNumber(column.kind)) return grouped(parse(text(row, column.name)));
  return display(row[column.name], column.kind);
}

function words(type: string): string {
  return type.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
}

function Lots(props: { readonly lots: readonly Row[] }) {
  const [closed, setClosed] = createSignal(false);
  const seen = createMemo(() =>
    props.lots.filter((lot) => closed() || !/^-?0(\.0+)?$/.test(text(lot, "remaining"))),
  );
  return (
    <section>
      <header>
        <h3>Lots</h3>
        <label class="check">
          <input type="checkbox" checked={closed()} onChange={() => setClosed(!closed())} />
          closed ones too ({props.lots.length})
        </label>
      </header>
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">Opened (UTC)</th>
            <th scope="col" class="number">
              Left
            </th>
            <th scope="col" class="number">
              Of
            </th>
            <th scope="col" class="number">
              Cost
            </th>
            <th scope="col">Deal</th>
          </tr>
        </thead>
        <tbody>
          <For each={seen().slice(-SHOWN_EVENTS)}>
            {(lot) => (
              <tr>
                <td class="when" title={text(lot, "opened_at")}>
                  {display(lot["opened_at"], "time").slice(0, 16)}
                </td>
                <td class="number">{display(lot["remaining"], "quantity")}</td>
                <td class="number">{display(lot["quantity"], "quantity")}</td>
                <td class="number" title={text(lot, "cost")}>
                  {display(lot["cost"], "money")}
                </td>
                <td>{text(lot, "deal_id")}</td>
              </tr>
            )}
          </For>
        </tbody>
      </table>
    </section>
  );
}

function Event(props: { readonly event: Row }) {
  const told = () => props.event;
  return (
    <li>
      <details>
        <summary>
          <span class="when">{display(told()["event_time"], "time")}</span>
          <span class="what">{words(text(told(), "type"))}</span>
          <span class="position">{text(told(), "position")}</span>
        </summary>
        <pre tabindex="0">{JSON.stringify(told(), null, 2)}</pre>
      </details>
    </li>
  );
}

export function Detail(props: Props) {
  const asked = createMemo(() => [props.opened, props.past] as const);
  const isPosition = () => props.opened.model.topic === "positions";
  const [events] = createResource(asked, ([opened, past]) => eventsOf(opened, past));
  const positions = () => (isPosition() ? asked() : null);
  const [lots] = createResource(positions, ([opened, past]) => lotsOf(opened, past));
  const [series] = createResource(positions, ([opened, past]) => chartOf(opened, past));
  const title = () =>
    props.opened.model.key
      .filter((name) => name !== "account")
      .map((name) => text(props.opened.row, name))
      .join(" ");

  return (
    <aside class="detail" aria-label={`Behind ${title()}`}>
      <header>
        <div>
          <h2>{title()}</h2>
          <p class="muted">{text(props.opened.row, "account")}</p>
        </div>
        <button type="button" class="plain" aria-label="Close" onClick={() => props.close()}>
          ✕
        </button>
      </header>
      <dl class="facts">
        <For each={props.opened.model.columns.filter(({ name }) => name !== "account")}>
          {(column) => (
            <Show when={display(props.opened.row[column.name], column.kind) !== ""}>
              <div classList={{ asked: props.opened.column === column.name }}>
                <dt>{column.title}</dt>
                <dd class={tone(column, exact(props.opened.row, column))}>
                  {exact(props.opened.row, column)}
                </dd>
              </div>
            </Show>
          )}
        </For>
      </dl>
      <Show when={isPosition()}>
        <Suspense fallback={<p class="muted chart">drawing</p>}>
          <Show when={!series.error && series()}>
            {(told) => <Chart series={told()} label={`${title()}: position, price and value`} />}
          </Show>
        </Suspense>
        <Show when={!lots.error && lots()}>{(told) => <Lots lots={told()} />}</Show>
      </Show>
      <section>
        <header>
          <h3>Events</h3>
          <Show when={!events.error && events()}>
            {(told) => <span class="muted">{told().length} behind this</span>}
          </Show>
        </header>
        <Show when={events.error}>
          <p class="fault" role="alert">
            {(events.error as Error).message}
          </p>
        </Show>
        <ol class="events">
          <For each={events.error ? [] : (events() ?? []).slice(-SHOWN_EVENTS).reverse()}>
            {(event) => <Event event={event} />}
          </For>
        </ol>
      </section>
    </aside>
  );
}
