/**
 * An order ticket. What was sent is kept until there is an answer: sent again it is the same to the
 * byte, so that it is one order, whatever was lost in between.
 */

import { createMemo, createSignal, For, onMount, Show } from "solid-js";

import { Problem, send, uuid, type Row } from "./api";
import { fixed, grouped, parse } from "./decimal";

interface Props {
  readonly accounts: readonly string[];
  readonly account: string;
  readonly instrument: string;
  readonly close: () => void;
}

interface Order {
  readonly account: string;
  readonly order_id: string;
  readonly instrument: string;
  readonly side: "buy" | "sell";
  readonly order_type: "limit" | "market";
  readonly quantity: string;
  readonly time_in_force: string;
  readonly event_time: string;
  readonly limit_price?: string;
}

interface Sent {
  readonly order: Order;
  readonly path: string;
}

const SENT = "daybook-order";
const LACKING = "urn:daybook:problem:lacking";
const UNDECIDED = "It is not known whether this was placed. Sent again, it is still one order.";
const RATE_LIMITED = 429;
const SERVER_FAULT = 500;
const AMOUNT = /^\d{1,20}(\.\d{1,18})?$/;

function positive(text: string): boolean {
  return AMOUNT.test(text) && parse(text).units > 0n;
}

/** Tell whether a fault leaves open what became of an order; all others are answers. */
function isOpen(error: unknown): boolean {
  if (!(error instanceof Problem)) return true;
  return error.status >= SERVER_FAULT || error.status === RATE_LIMITED;
}

/** What was sent and not answered, also by a ticket or a page that was closed since. */
function createSent() {
  const kept = sessionStorage.getItem(SENT);
  const [sent, setSent] = createSignal(kept === null ? null : (JSON.parse(kept) as Sent));
  const keep = (told: Sent | null) => {
    setSent(told);
    if (told === null) sessionStorage.removeItem(SENT);
    else sessionStorage.setItem(SENT, JSON.stringify(told));
  };
  return [sent, keep] as const;
}

export function Ticket(props: Props) {
  const [sent, keep] = createSent();
  const was = sent()?.order;
  const only = () => (props.accounts.length === 1 ? props.accounts[0]! : "");
  const [account, setAccount] = createSignal(was?.account ?? (props.account || only()));
  const [instrument, setInstrument] = createSignal(was?.instrument ?? props.instrument);
  const [side, setSide] = createSignal(was?.side ?? "buy");
  const [kind, setKind] = createSignal(was?.order_type ?? "limit");
  const [quantity, setQuantity] = createSignal(was?.quantity ?? "");
  const [limit, setLimit] = createSignal(was?.limit_price ?? "");
  const [force, setForce] = createSignal(was?.time_in_force ?? "day");
  /** The instrument that the ledger does not know, and is asked to take all the same. */
  const [unknown, setUnknown] = createSignal("");
  const [isNew, setNew] = createSignal(false);
  const [said, setSaid] = createSignal(was ? { ok: false, text: UNDECIDED } : null);
  const [busy, setBusy] = createSignal(false);

  let form!: HTMLFormElement;
  onMount(() => {
    const first = was
      ? "[type=submit]"
      : `[name=${instrument() === "" ? "instrument" : "quantity"}]`;
    form.querySelector<HTMLElement>(first)?.focus();
  });
  const notional = createMemo(() => {
    if (kind() !== "limit" || !positive(quantity()) || !positive(limit())) return "";
    const [left, right] = [parse(quantity()), parse(limit())];
    const product = { units: left.units * right.units, scale: left.scale + right.scale };
    return grouped(fixed(product, 2));
  });
  const complete = () =>
    account() !== "" &&
    instrument() !== "" &&
    positive(quantity()) &&
    (kind() === "market" || positive(limit()));

  const order = (): Order => ({
    account: account(),
    order_id: uuid(),
    instrument: instrument(),
    side: side(),
    order_type: kind(),
    quantity: quantity(),
    time_in_force: force(),
    event_time: new Date().toISOString(),
    ...(kind() === "limit" ? { limit_price: limit() } : {}),
  });

  const words = () => `${side() === "buy" ? "Buy" : "Sell"} ${quantity()} ${instrument()}`;

  const place = async (event: Event) => {
    event.preventDefault();
    if (!complete() || busy()) return;
    // Of an instrument that is not known nothing is assumed, unless that is asked for.
    const path = isNew() && unknown() === instrument() ? "/v1/orders" : "/v1/orders?strict=true";
    const told = sent() ?? { order: order(), path };
    keep(told);
    setSaid(null);
    setBusy(true);
    try {
      const answer: Row = await send(told.path, told.order, `ticket-${told.order.order_id}`);
      keep(null);
      // Nothing is left that a second click could send.
      setQuantity("");
      form.querySelector<HTMLElement>("[name=quantity]")?.focus();
      setSaid({ ok: true, text: `Placed at ${String(answer["position"] ?? "")}` });
    } catch (error) {
      const isUnanswered = isOpen(error);
      if (!isUnanswered) keep(null);
      if (error instanceof Problem && error.type === LACKING) setUnknown(told.order.instrument);
      const text = (error as Error).message;
      setSaid({ ok: false, text: isUnanswered ? `${text}. ${UNDECIDED}` : text });
    } finally {
      setBusy(false);
    }
  };
  const giveUp = () => {
    keep(null);
    setSaid(null);
  };

  return (
    <form
      ref={form}
      class="ticket"
      onSubmit={(event) => void place(event)}
      aria-label="Order ticket"
    >
      <header>
        <h2>New order</h2>
        <button
          type="button"
          class="plain"
          aria-label="Close the ticket"
          onClick={() => props.close()}
        >
          ✕
        </button>
      </header>
      <fieldset disabled={sent() !== null && !busy()}>
        <label>
          Account
          <select
            value={account()}
            required
            onChange={(event) => setAccount(event.currentTarget.value)}
          >
            <option value="" disabled>
              Which?
            </option>
            <For each={props.accounts}>
              {(name) => (
                <option value={name} selected={name === account()}>
                  {name}
                </option>
              )}
            </For>
          </select>
        </label>
        <label>
          Instrument
          <input
            name="instrument"
            required
            autocomplete="off"
            value={instrument()}
            onInput={(event) => setInstrument(event.currentTarget.value.trim())}
          />
        </label>
        <div class="sides" role="radiogroup" aria-label="Side">
          {(["buy", "sell"] as const).map((name) => (
            <label class={name}>
              <input
                type="radio"
                name="side"
                checked={side() === name}
                onChange={() => setSide(name)}
              />
              {name}
            </label>
          ))}
        </div>
        <label>
          Quantity
          <input
            name="quantity"
            inputmode="decimal"
            required
            autocomplete="off"
            aria-invalid={quantity() !== "" && !positive(quantity())}
            value={quantity()}
            onInput={(event) => setQuantity(event.currentTarget.value.trim())}
          />
        </label>
        <div class="pair">
          <label>
            Type
            <select
              value={kind()}
              onChange={(event) => setKind(event.currentTarget.value as "limit" | "market")}
            >
              <option value="limit">limit</option>
              <option value="market">market</option>
            </select>
          </label>
          <label>
            In force
            <select value={force()} onChange={(event) => setForce(event.currentTarget.value)}>
              <option value="day">day</option>
              <option value="gtc">until cancelled</option>
              <option value="ioc">immediate or cancel</option>
              <option value="fok">fill or kill</option>
            </select>
          </label>
        </div>
        <Show when={kind() === "limit"}>
          <label>
            Limit price
            <input
              name="limit_price"
              inputmode="decimal"
              autocomplete="off"
              aria-invalid={limit() !== "" && !positive(limit())}
              value={limit()}
              onInput={(event) => setLimit(event.currentTarget.value.trim())}
            />
          </label>
        </Show>
        <Show when={unknown() !== "" && unknown() === instrument()}>
          <label class="check">
            <input
              type="checkbox"
              checked={isNew()}
              onChange={(event) => setNew(event.currentTarget.checked)}
            />
            {unknown()} is a new instrument
          </label>
        </Show>
      </fieldset>
      <p class="notional">{notional() === "" ? "" : `${notional()} in all`}</p>
      <button type="submit" class={`primary ${side()}`} disabled={!complete() || busy()}>
        {busy() ? "Sending" : sent() ? "Send again" : words()}
      </button>
      <Show when={sent() !== null && !busy()}>
        <button type="button" onClick={giveUp}>
          Another order instead
        </button>
      </Show>
      <Show when={said()}>
        {(told) => (
          <p class={told().ok ? "gain" : "fault"} role="status">
            {told().text}
          </p>
        )}
      </Show>
    </form>
  );
}
