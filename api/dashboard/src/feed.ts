/** The live feed: one socket, a subscription for each table, resumed after every loss. */

import { createSignal, type Accessor } from "solid-js";

import { token, type Row } from "./api";
import { backoffMs, step, type RowsFrame } from "./chain";

export type Topic = "positions" | "orders" | "deals" | "balances";
export type State = "connecting" | "live" | "waiting" | "refused";

export interface Health {
  readonly state: State;
  readonly position: string;
  readonly reconnects: number;
  /** How often there was no socket, or it was lost. */
  readonly losses: number;
  readonly gaps: number;
  readonly frames: number;
  readonly heardAtMs: number;
  readonly reason: string;
}

/** Why a subscription is not taken, or has ended. */
export interface Refusal {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail?: string;
}

interface Subscription {
  /** A new one after each gap: frames of the old one may still be on their way. */
  id: number;
  readonly topic: Topic;
  readonly account: string;
  position: string | null;
  /** Whether the server has it. */
  isAsked: boolean;
  failures: number;
  retry: number;
  readonly take: (frame: RowsFrame) => void;
  readonly fail: (refusal: Refusal) => void;
}

type Frame =
  | RowsFrame
  | { op: "heartbeat"; position: string }
  | { op: "error"; id: number | null; problem: Refusal };

/** A socket is taken for dead when nothing was heard on it for so long. */
const SILENCE_MS = 25_000;
const SUBPROTOCOL = "daybook.v1";
const POLICY_VIOLATION = 1008;
const TOKEN_ENDED = 4401;
/** From this status on it is the server's fault, and asking again may help. */
const SERVER_FAULT = 500;

export class Feed {
  readonly health: Accessor<Health>;
  #setHealth: (change: (was: Health) => Health) => void;
  #socket: WebSocket | null = null;
  #subscriptions = new Map<number, Subscription>();
  #nextId = 1;
  #attempt = 0;
  #retry = 0;
  #watch = 0;
  #isResting = false;

  constructor() {
    const [health, setHealth] = createSignal<Health>({
      state: "connecting",
      position: "",
      reconnects: 0,
      losses: 0,
      gaps: 0,
      frames: 0,
      heardAtMs: Date.now(),
      reason: "",
    });
    this.health = health;
    this.#setHealth = setHealth;
    this.#connect();
  }

  /** Subscribe; returns what ends it. `account` may be empty for all that may be seen. */
  subscribe(
    topic: Topic,
    account: string,
    take: (frame: RowsFrame) => void,
    fail: (refusal: Refusal) => void,
  ): () => void {
    const id = this.#nextId++;
    const asked = { position: null, isAsked: false, failures: 0, retry: 0 };
    const told: Subscription = { id, topic, account, ...asked, take, fail };
    this.#subscriptions.set(id, told);
    if (this.#isOpen()) this.#ask(told);
    return () => this.#give(told);
  }

  /** Connect anew at once, as after a token was given. */
  reconnect(): void {
    this.#isResting = false;
    this.#attempt = 0;
    this.#socket?.close();
    if (this.#socket === null) this.#connect();
  }

  /** Have no socket until told to connect again. */
  rest(): void {
    this.#isResting = true;
    clearTimeout(this.#retry);
    clearInterval(this.#watch);
    this.#socket?.close();
  }

  #isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #say(frame: object): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  #ask(told: Subscription): void {
    const { id, topic, account, position } = told;
    clearTimeout(told.retry);
    told.isAsked = true;
    this.#say({
      op: "subscribe",
      id,
      topic,
      ...(account === "" ? {} : { account }),
      ...(position === null ? {} : { from: position }),
    });
  }

  /** Give a subscription up. */
  #give(told: Subscription): void {
    clearTimeout(told.retry);
    this.#subscriptions.delete(told.id);
    if (told.isAsked && this.#isOpen()) this.#say({ op: "unsubscribe", id: told.id });
  }

  #connect(): void {
    clearTimeout(this.#retry);
    const url = new URL("/v1/feed", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const kept = token();
    // A browser cannot set headers on a socket: the token goes beside the protocol's name.
    const protocols = kept === null ? [SUBPROTOCOL] : [SUBPROTOCOL, `bearer.${kept}`];
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    socket.onopen = () => {
      this.#attempt = 0;
      this.#note({ state: "live", reason: "", heardAtMs: Date.now() });
      for (const told of this.#subscriptions.values()) this.#ask(told);
    };
    socket.onmessage = (event) => this.#hear(JSON.parse(event.data as string) as Frame);
    socket.onclose = (event) => this.#lost(event);
    clearInterval(this.#watch);
    this.#watch = window.setInterval(() => this.#checkSilence(), 1000);
  }

  #checkSilence(): void {
    if (this.#isOpen() && Date.now() - this.health().heardAtMs > SILENCE_MS) this.#socket?.close();
  }

  #lost(event: CloseEvent): void {
    this.#socket = null;
    for (const told of this.#subscriptions.values()) told.isAsked = false;
    const refused = event.code === POLICY_VIOLATION || event.code === TOKEN_ENDED;
    this.#setHealth((was) => ({
      ...was,
      state: refused ? "refused" : "waiting",
      reason: event.reason,
      reconnects: was.reconnects + (was.state === "live" ? 1 : 0),
      losses: was.losses + 1,
    }));
    if (this.#isResting) return;
    this.#retry = window.setTimeout(
      () => this.#connect(),
      backoffMs(this.#attempt++, Math.random()),
    );
  }

  #note(change: Partial<Health>): void {
    this.#setHealth((was) => ({ ...was, ...change }));
  }

  #hear(frame: Frame): void {
    const heardAtMs = Date.now();
    switch (frame.op) {
      case "heartbeat":
        this.#note({ heardAtMs, position: frame.position });
        return;
      case "error":
        this.#refuse(frame.id, frame.problem);
        return;
      case "snapshot":
      case "delta":
        this.#setHealth((was) => ({ ...was, heardAtMs, frames: was.frames + 1 }));
        this.#take(frame);
    }
  }

  #refuse(id: number | null, refusal: Refusal): void {
    const told = id === null ? undefined : this.#subscriptions.get(id);
    if (told === undefined) {
      this.#note({ reason: refusal.detail ?? refusal.title });
      return;
    }
    told.isAsked = false;
    told.position = null;
    if (refusal.status >= SERVER_FAULT) {
      const pause = backoffMs(told.failures++, Math.random());
      told.retry = window.setTimeout(() => this.#isOpen() && this.#ask(told), pause);
    }
    told.fail(refusal);
  }

  #take(frame: RowsFrame): void {
    const told = this.#subscriptions.get(frame.id);
    if (told === undefined) return;
    if (step(told.position, frame) === "gap") {
      this.#setHealth((was) => ({ ...was, gaps: was.gaps + 1 }));
      this.#give(told);
      told.id = this.#nextId++;
      this.#subscriptions.set(told.id, told);
      this.#ask(told);
      return;
    }
    told.failures = 0;
    told.position = frame.position;
    told.take(frame);
  }
}

export type { Row };
