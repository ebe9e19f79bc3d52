/** Requests to the ledger's API. What it refuses is thrown as a Problem. */

export type Value = string | number | boolean | null | Value[] | { [name: string]: Value };
export type Row = { readonly [name: string]: Value };

/** An answer that says why not (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
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
  const { title, detail } = (body ?? {}) as { title?: string; detail?: string };
  throw new Problem(response.status, title ?? response.statusText, detail ?? "");
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

/** Return all rows there are, page by page, but no more than `most`. */
export async function rows(
  path: string,
  parameters: Record<string, string> = {},
  signal?: AbortSignal,
  most = 200_000,
): Promise<Row[]> {
  const found: Row[] = [];
  let cursor = "";
  do {
    const told = await page(path, { limit: "1000", ...parameters, cursor }, signal);
    for (const row of told.data) found.push(row);
    cursor = told.next ?? "";
  } while (cursor !== "" && found.length < most);
  return found;
}

/** Return the path of a read model of an account. */
export function ofAccount(account: string, model: string): string {
  return `/v1/accounts/${encodeURIComponent(account)}/${model}`;
}

export function pastParameters(past: Past): Record<string, string> {
  return { as_of: past.asOf, known_at: past.knownAt };
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
