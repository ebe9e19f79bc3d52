/** The tables of the page: which columns of which read model, and how each is shown. */

import type { Row, Value } from "./api";
import { shown } from "./decimal";
import type { Topic } from "./feed";

export type Kind =
  "text" | "quantity" | "price" | "average" | "money" | "signed" | "time" | "status" | "list";

export interface Column {
  readonly name: string;
  readonly title: string;
  readonly kind: Kind;
  /** 1 is shown on a phone, 2 on a tablet, 3 where there is room. */
  readonly rank: 1 | 2 | 3;
  /** The least width, in characters. */
  readonly width: number;
}

export interface Model {
  readonly topic: Topic;
  readonly title: string;
  readonly key: readonly string[];
  readonly columns: readonly Column[];
  /** What its rows are called where only open ones are asked for; they may all be open. */
  readonly open?: string;
  readonly sort: { readonly name: string; readonly descending: boolean };
}

const WIDTHS: Record<Kind, number> = {
  text: 9,
  quantity: 9,
  price: 10,
  average: 12,
  money: 12,
  signed: 12,
  time: 20,
  status: 8,
  list: 10,
};

const column = (
  name: string,
  title: string,
  kind: Kind,
  rank: 1 | 2 | 3,
  width = WIDTHS[kind],
): Column => ({ name, title, kind, rank, width });

const ACCOUNT = column("account", "Account", "text", 2, 15);
const INSTRUMENT = column("instrument", "Instrument", "text", 1, 11);
const CURRENCY = column("currency", "Ccy", "text", 3, 5);
const FLAGS = column("flags", "Flags", "list", 3);

export const POSITIONS: Model = {
  topic: "positions",
  title: "Book",
  open: "open positions",
  key: ["account", "instrument", "currency"],
  sort: { name: "market_value", descending: true },
  columns: [
    INSTRUMENT,
    ACCOUNT,
    column("quantity", "Quantity", "quantity", 1),
    column("average_cost", "Average cost", "average", 3),
    column("mark", "Mark", "price", 2),
    column("market_value", "Value", "money", 1),
    column("unrealised_pnl", "Unrealised", "signed", 1),
    column("realised_pnl", "Realised", "signed", 2),
    column("fees", "Fees", "money", 3),
    CURRENCY,
  ],
};

export const ORDERS: Model = {
  topic: "orders",
  title: "Orders",
  open: "open orders",
  key: ["account", "order_id"],
  sort: { name: "event_time", descending: true },
  columns: [
    column("order_id", "Order", "text", 2, 17),
    ACCOUNT,
    INSTRUMENT,
    column("side", "Side", "status", 1, 6),
    column("order_type", "Type", "text", 3, 7),
    column("status", "Status", "status", 1, 14),
    column("quantity", "Quantity", "quantity", 1),
    column("cum_quantity", "Filled", "quantity", 2),
    column("leaves_quantity", "Left", "quantity", 2),
    column("limit_price", "Limit", "price", 3),
    column("average_price", "Average", "average", 3),
    column("event_time", "Last event (UTC)", "time", 2),
    FLAGS,
  ],
};

export const DEALS: Model = {
  topic: "deals",
  title: "Deals",
  key: ["account", "deal_id"],
  sort: { name: "event_time", descending: true },
  columns: [
    column("event_time", "Time (UTC)", "time", 1),
    ACCOUNT,
    column("deal_id", "Deal", "text", 3, 17),
    INSTRUMENT,
    column("side", "Side", "status", 1, 6),
    column("quantity", "Quantity", "quantity", 1),
    column("price", "Price", "price", 1),
    column("net", "Net", "signed", 2),
    column("fees", "Fees", "money", 3),
    CURRENCY,
    column("status", "Status", "status", 2),
    FLAGS,
  ],
};

export const BALANCES: Model = {
  topic: "balances",
  title: "Cash",
  key: ["account", "currency"],
  sort: { name: "account", descending: false },
  columns: [
    { ...ACCOUNT, rank: 1 },
    { ...CURRENCY, title: "Currency", rank: 1 },
    column("balance", "By trade date", "signed", 1),
    column("settled", "Settled", "signed", 1),
  ],
};

export const MODELS: readonly Model[] = [POSITIONS, ORDERS, DEALS, BALANCES];

const PLACES: Partial<Record<Kind, [most: number, least: number]>> = {
  quantity: [8, 0],
  price: [4, 2],
  average: [4, 4],
  money: [2, 2],
  signed: [2, 2],
};

export function isNumber(kind: Kind): boolean {
  return kind in PLACES;
}

/** Return a value as its column shows it. */
export function display(value: Value | undefined, kind: Kind): string {
  if (value === null || value === undefined) return "";
  const places = PLACES[kind];
  if (places !== undefined) return shown(String(value), places[0], places[1]);
  switch (kind) {
    case "time":
      return String(value)
        .replace("T", " ")
        .replace(/\.0+Z$|Z$/, "");
    case "status":
      return String(value).replaceAll("_", " ");
    case "list":
      return (value as Value[]).map((flag) => String(flag).replaceAll("_", " ")).join(", ");
    default:
      return String(value);
  }
}

/** What is looked at for a text: a row is looked at again and again, at every key. */
const texts = new WeakMap<Row, string>();

/** Tell whether a row has a text in any of its columns; the text is in lower case. */
export function contains(row: Row, columns: readonly Column[], text: string): boolean {
  let told = texts.get(row);
  if (told === undefined) {
    told = columns
      .map(({ name }) => String(row[name] ?? ""))
      .join("\n")
      .toLowerCase();
    texts.set(row, told);
  }
  return told.includes(text);
}
