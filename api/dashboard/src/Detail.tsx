/** What is behind a row: its exact numbers, its lots, its chart, and the events that made it. */

import { createMemo, createSignal, For, lazy, Show, Suspense } from "solid-js";

import { createAnswer } from "./answer";
import type { Found, Past, Row } from "./api";
import { booked, eventsOf, lotsOf, seriesOf, text, type Opened } from "./behind";
import type { Series } from "./Chart";
import { display, isNumber, type Column } from "./columns";
import { grouped, parse } from "./decimal";
import { tone } from "./Table";

const Chart = lazy(() => import("./Chart").then(({ Chart }) => ({ default: Chart })));
/** How many events are shown at first, and how many with each "more". */
const SHOWN_EVENTS = 200;
/** As many as can be asked for at once. */
const MOST_EVENTS = 10_000;
const SHOWN_LOTS = 200;

interface Props {
  readonly opened: Opened;
  readonly past: Past;
  readonly close: () => void;
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
          <For each={seen().slice(-SHOWN_LOTS)}>
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
      <Show when={seen().length > SHOWN_LOTS}>
        <p class="muted">
          the last {SHOWN_LOTS} of {seen().length.toLocaleString("en")}
        </p>
      </Show>
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

function Events(props: { readonly opened: Opened; readonly past: Past; readonly row: string }) {
  const [most, setMost] = createSignal(SHOWN_EVENTS);
  const answer = createAnswer<Found>(
    () => [props.row, most()],
    (signal, was) => eventsOf(props.opened, props.past, most(), signal, was),
  );
  const count = (found: Found) =>
    found.isWhole
      ? `${found.rows.length.toLocaleString("en")} behind this`
      : `the newest ${found.rows.length.toLocaleString("en")} behind this`;
  return (
    <section>
      <header>
        <h3>Events</h3>
        <Show when={answer().value}>{(found) => <span class="muted">{count(found())}</span>}</Show>
      </header>
      <Show when={answer().problem !== ""}>
        <p class="fault" role="alert">
          {answer().problem}
        </p>
      </Show>
      <ol class="events">
        <For each={answer().value?.rows}>{(event) => <Event event={event} />}</For>
      </ol>
      <Show when={answer().value?.isWhole === false && most() < MOST_EVENTS}>
        <button type="button" onClick={() => setMost(Math.min(10 * most(), MOST_EVENTS))}>
          More
        </button>
      </Show>
    </section>
  );
}

function History(props: {
  readonly opened: Opened;
  readonly past: Past;
  readonly row: string;
  readonly title: string;
}) {
  const changes = () => props.row;
  const lots = createAnswer<Row[]>(changes, (signal) => lotsOf(props.opened, props.past, signal));
  const series = createAnswer<Series>(changes, (signal) =>
    seriesOf(props.opened, props.past, signal),
  );
  return (
    <>
      <Suspense fallback={<p class="muted chart">drawing</p>}>
        <Show
          when={series().value}
          fallback={<p class="muted chart">{series().problem || "drawing"}</p>}
        >
          {(told) => <Chart series={told()} label={`${props.title}: position, price and value`} />}
        </Show>
      </Suspense>
      <Show when={lots().value} fallback={<p class="muted">{lots().problem}</p>}>
        {(told) => <Lots lots={told()} />}
      </Show>
    </>
  );
}

/** The place of one row in one time: of another row it is another one. */
export function Detail(props: Props) {
  const row = createMemo(() => booked(props.opened.row));
  const title = () =>
    props.opened.model.key
      .filter((name) => name !== "account")
      .map((name) => text(props.opened.row, name))
      .join(" ");

  return (
    <aside class="detail" tabindex="-1" aria-label={`Behind ${title()}`}>
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
      <Show when={props.opened.model.topic === "positions"}>
        <History opened={props.opened} past={props.past} row={row()} title={title()} />
      </Show>
      <Events opened={props.opened} past={props.past} row={row()} />
    </aside>
  );
}
