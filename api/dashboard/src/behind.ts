/** What is behind a row: the events that made it, and of a position its lots and its history. */

import {
  ofAccount,
  page,
  pastParameters,
  rows as fetchRows,
  type Found,
  type Past,
  type Row,
} from "./api";
import type { Model } from "./columns";
import type { Series } from "./Chart";
import { history, valueFactor } from "./history";
import { MARK } from "./marks";

export interface Opened {
  readonly model: Model;
  readonly row: Row;
  /** The column whose number was asked about, if one was. */
  readonly column: string | null;
}

/** The parameter by which the events of a row are asked for, and the column that it is told. */
const ABOUT: Record<string, readonly [string, string]> = {
  positions: ["instrument", "instrument"],
  orders: ["order", "order_id"],
  deals: ["deal", "deal_id"],
  balances: ["currency", "currency"],
};

export function text(row: Row, name: string): string {
  return String(row[name] ?? "");
}

/** Return what was booked of a row: prices that mark it are no events of it. */
export function booked(row: Row): string {
  const marks: readonly string[] = MARK;
  return JSON.stringify(row, (name, value: unknown) => (marks.includes(name) ? undefined : value));
}

/** Return the newest events of a row, first the newest; those that were there stay what they were. */
export async function eventsOf(
  opened: Opened,
  past: Past,
  most: number,
  signal: AbortSignal,
  was: Found | null,
): Promise<Found> {
  const { model, row } = opened;
  const [parameter, column] = ABOUT[model.topic]!;
  const told = { ...pastParameters(past), account: text(row, "account"), newest: "true" };
  const about = { [parameter]: text(row, column), limit: String(most) };
  const found = await fetchRows("/v1/events", { ...told, ...about }, signal, most);
  const known = new Map(was?.rows.map((event) => [text(event, "position"), event]));
  const rows = found.rows.map((event) => known.get(text(event, "position")) ?? event);
  return { ...found, rows };
}

export async function lotsOf(opened: Opened, past: Past, signal: AbortSignal): Promise<Row[]> {
  const { row } = opened;
  const told = { ...pastParameters(past), instrument: text(row, "instrument") };
  const { rows } = await fetchRows(ofAccount(text(row, "account"), "lots"), told, signal);
  return rows.filter((lot) => lot["currency"] === row["currency"]);
}

export async function seriesOf(opened: Opened, past: Past, signal: AbortSignal): Promise<Series> {
  const { row } = opened;
  const account = text(row, "account");
  const told = { ...pastParameters(past), instrument: text(row, "instrument") };
  const ofRow = async (path: string) =>
    (await fetchRows(path, told, signal)).rows.filter((one) => one["currency"] === row["currency"]);
  const [deals, movements, prices, instruments] = await Promise.all([
    ofRow(ofAccount(account, "deals")),
    ofRow(ofAccount(account, "movements")),
    ofRow("/v1/prices"),
    page("/v1/instruments", { instrument: told.instrument }, signal),
  ]);
  return history([...deals, ...movements], prices, valueFactor(row, instruments.data[0]));
}
