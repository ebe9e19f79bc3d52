/** An order ticket. The order's command id is made once, so that sending twice places one order. */

import { createMemo, createSignal, onMount, Show } from "solid-js";

import { send, type Row } from "./api";
import { grouped, parse, rounded } from "./decimal";

interface Props {
  readonly accounts: readonly string[];
  readonly account: string;
  readonly instrument: string;
  readonly close: () => void;
}

const AMOUNT = /^\d{1,20}(\.\d{1,18})?$/;

function positive(text: string): boolean {
  return AMOUNT.test(text) && parse(text).units > 0n;
}

export function Ticket(props: Props) {
  const [account, setAccount] = createSignal(props.account || (props.accounts[0] ?? ""));
  const [instrument, setInstrument] = createSignal(props.instrument);
  const [side, setSide] = createSignal<"buy" | "sell">("buy");
  const [kind, setKind] = createSignal<"limit" | "market">("limit");
  const [quantity, setQuantity] = createSignal("");
  const [limit, setLimit] = createSignal("");
  const [force, setForce] = createSignal("day");
  const [id, setId] = createSignal(crypto.randomUUID());
  const [said, setSaid] = createSignal<{ ok: boolean; text: string } | null>(null);
  const [busy, setBusy] = createSignal(false);

  let form!: HTMLFormElement;
  onMount(() => {
    const first = props.instrument === "" ? "instrument" : "quantity";
    form.querySelector<HTMLInputElement>(`[name=${first}]`)?.focus();
  });
  const notional = createMemo(() => {
    if (kind() !== "limit" || !positive(quantity()) || !positive(limit())) return "";
    const [left, right] = [parse(quantity()), parse(limit())];
    const product = { units: left.units * right.units, scale: left.scale + right.scale };
    return grouped(rounded(product, 2));
  });
  const complete = () =>
    account() !== "" &&
    instrument() !== "" &&
    positive(quantity()) &&
    (kind() === "market" || positive(limit()));

  const order = () => ({
    account: account(),
    order_id: id(),
    instrument: instrument(),
    side: side(),
    order_type: kind(),
    quantity: quantity(),
    time_in_force: force(),
    event_time: new Date().toISOString(),
    ...(kind() === "limit" ? { limit_price: limit() } : {}),
  });

  const place = async (event: Event) => {
    event.preventDefault();
    if (!complete() || busy()) return;
    setBusy(true);
    try {
      const answer: Row = await send("/v1/orders", order(), `ticket-${id()}`);
      const refused = answer["status"] === "refused";
      const reason = String(answer["reason"] ?? "").replaceAll("_", " ");
      setSaid({
        ok: !refused,
        text: refused ? `Refused: ${reason}` : `Placed at ${String(answer["position"] ?? "")}`,
      });
      setId(crypto.randomUUID());
    } catch (error) {
      setSaid({ ok: false, text: (error as Error).message });
    } finally {
      setBusy(false);
    }
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
      <label>
        Account
        <select value={account()} onChange={(event) => setAccount(event.currentTarget.value)}>
          {props.accounts.map((name) => (
            <option value={name}>{name}</option>
          ))}
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
      <p class="notional">{notional() === "" ? "" : `${notional()} in all`}</p>
      <button type="submit" class={`primary ${side()}`} disabled={!complete() || busy()}>
        {busy() ? "Sending" : `${side() === "buy" ? "Buy" : "Sell"} ${quantity()} ${instrument()}`}
      </button>
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
