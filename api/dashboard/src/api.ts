/** Requests to the ledger's API. What it refuses is thrown as a Problem. */

export type Value = string | number | boolean | null | Value[] | { [name: string]: Value };
export type Row = { readonly [name: string]: Value };

/** An answer that says why not (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** What kind it is of, such as `urn:daybook:problem:forbidden`. */
    readonly type: string,
  ) {
    super(detail === "" ? title : `${title}: ${detail}`);
  }
}

export interface Past {
  readonly asOf: string;
  readonly knownAt: string;
}

export interface Page {
  readonly data: Row[];
  readonly next: string | null;
  readonly position: string;
}

const TOKEN = "daybook-token";
/** As many as the server gives: a table of the past is made anew for each page. */
const PAGE_ROWS = "10000";

export function token(): string | null {
  return sessionStorage.getItem(TOKEN);
}

export function keepToken(text: string): void {
  if (text === "") sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, text);
}

function headers(more: Record<string, string>): Headers {
  const told = new Headers({ Accept: "application/json", ...more });
  const kept = token();
  if (kept !== null) told.set("Authorization", `Bearer ${kept}`);
  return told;
}

async function answered(response: Response): Promise<unknown> {
  const text = await response.text();
  let body: unknown = null;
  try {
    body = text === "" ? null : JSON.parse(text);
  } catch {
    body = null;
  }
  if (response.ok) return body;
  const told = (body ?? {}) as { title?: string; detail?: string; type?: string };
  const { title = response.statusText, detail = "", type = "" } = told;
  throw new Problem(response.status, title, detail, type);
}

/** Return one page of rows. */
export async function page(
  path: string,
  parameters: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Page> {
  const query = new URLSearchParams(
    Object.entries(parameters).filter(([, value]) => value !== ""),
  ).toString();
  const init: RequestInit = { headers: headers({}) };
  if (signal !== undefined) init.signal = signal;
  return (await answered(await fetch(query === "" ? path : `${path}?${query}`, init))) as Page;
}

/** Rows that were asked for, and whether these are all there are. */
export interface Found {
  readonly rows: Row[];
  readonly isWhole: boolean;
}

/** Return the rows there are, page by page, until there are `most` of them. */
export async function rows(
  path: string,
  parameters: Record<string, string> = {},
  signal?: AbortSignal,
  most = 200_000,
): Promise<Found> {
  const found: Row[] = [];
  let cursor = "";
  do {
    const told = await page(path, { limit: PAGE_ROWS, ...parameters, cursor }, signal);
    for (const row of told.data) found.push(row);
    cursor = told.next ?? "";
  } while (cursor !== "" && found.length < most);
  return { rows: found, isWhole: cursor === "" };
}

/** Return the path of a read model of an account. */
export function ofAccount(account: string, model: string): string {
  return `/v1/accounts/${encodeURIComponent(account)}/${model}`;
}

export function pastParameters(past: Past): Record<string, string> {
  return { as_of: past.asOf, known_at: past.knownAt };
}

/** Return a random UUID. `crypto.randomUUID` is not there for pages that came by plain HTTP. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Send a command once, however often it has to be tried: its id is the key. */
export async function send(path: string, body: unknown, key: string): Promise<Row> {
  const init: RequestInit = {
    method: "POST",
    headers: headers({ "Content-Type": "application/json", "Idempotency-Key": key }),
    body: JSON.stringify(body),
  };
  try {
    return (await answered(await fetch(path, init))) as Row;
  } catch (error) {
    if (error instanceof Problem) throw error;
    return (await answered(await fetch(path, init))) as Row;
  }
}
