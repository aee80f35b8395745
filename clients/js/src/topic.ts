import { ask } from "./ask.js";
import { delayMs } from "./backoff.js";
import { Deferred } from "./deferred.js";
import { PagewireError } from "./error.js";
import { serverError, type Requests } from "./requests.js";
import { Subscriber, type Room } from "./subscriber.js";
import type { SubscribeOptions } from "./subscription.js";
import type { Backoff, Delivery, Message } from "./types.js";

/** The operations that a topic needs from its page. */
export interface Surroundings {
  readonly requests: Requests;
  readonly backoff: Backoff;
  /** Reports that no subscription to the topic is left in this document. */
  ended(): void;
  /** Unsubscribes the page at the server. */
  unsubscribe(): Promise<void>;
}

/**
 * A topic that this document is subscribed to. It subscribes again whenever the server may have lost the subscription.
 */
export class Topic implements Room {
  readonly #name: string;
  readonly #page: Surroundings;
  readonly #subscribers = new Set<Subscriber>();
  #live = false;
  /** `asked`: the request is on its way to the server, over any number of sockets. */
  #state: "unknown" | "asked" | "stands" = "unknown";
  /** Incremented so that an attempt notices that it is obsolete. */
  #turn = 0;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** Settled once messages sent from now on find the page subscribed. */
  #standing = new Deferred<void>();

  constructor(name: string, page: Surroundings) {
    this.#name = name;
    this.#page = page;
  }

  subscribe(token: SubscribeOptions["token"]): Subscriber {
    const subscriber = new Subscriber(this.#name, token, this);
    this.#subscribers.add(subscriber);
    if (this.#state === "stands") subscriber.stand();
    return subscriber;
  }

  async send(payload: unknown): Promise<Delivery> {
    await this.#standing.promise;
    return ask(this.#page.requests, { type: "send", to: { topic: this.#name }, payload }) as Promise<Delivery>;
  }

  async leave(subscriber: Subscriber): Promise<void> {
    if (!this.#subscribers.delete(subscriber) || this.#subscribers.size > 0) return;
    const heard = this.#state !== "unknown";
    this.#end(new PagewireError("closed", "the subscription was closed"));
    if (heard) await this.#page.unsubscribe();
  }

  /** Handles a registered socket; `kept` means that the page still has its subscriptions. */
  open(kept: boolean): void {
    this.#live = true;
    if (!kept) this.#state = "unknown";
    if (this.#state === "stands") this.#standing.resolve();
    else if (this.#state === "unknown") void this.#ask();
  }

  /** Handles a lost socket, or a next one that was not registered. */
  pause(): void {
    const wasLive = this.#live;
    this.#live = false;
    clearTimeout(this.#retry);
    // the first time only, because messages already wait for the one that was made then
    if (wasLive && this.#state === "stands") this.#standing = new Deferred();
  }

  /** Handles a closed page; the next page subscribes again. */
  close(error: PagewireError): void {
    this.#turn += 1;
    this.#state = "unknown";
    this.#standing.reject(error);
    this.#standing = new Deferred();
  }

  take(message: Message): void {
    for (const subscriber of [...this.#subscribers]) {
      // closed by the listener of another subscription
      if (this.#subscribers.has(subscriber)) subscriber.take(message);
    }
  }

  async #ask(): Promise<void> {
    const turn = ++this.#turn;
    const overtaken = (): boolean => turn !== this.#turn;
    this.#state = "asked";
    const token = await this.#token().catch((error) => {
      if (!overtaken()) this.#fail(new PagewireError("unauthenticated", `no token to be had: ${String(error)}`, true));
      return undefined;
    });
    if (overtaken() || this.#state !== "asked") return;
    // the socket was lost while the token was fetched: the next socket fetches another one
    if (!this.#live) return void (this.#state = "unknown");
    this.#page.requests.add({ type: "subscribe", topic: this.#name, token }, {
      take: (answer) => {
        if (overtaken()) return true;
        if (answer.type === "error") this.#fail(serverError(answer));
        else this.#stand();
        return true;
      },
      fail: () => {
        if (!overtaken()) this.#state = "unknown";
      },
    });
  }

  /** Returns a token from the newest subscription that provides one. */
  async #token(): Promise<string | undefined> {
    return [...this.#subscribers].reverse().find(({ token }) => token)?.token?.();
  }

  #stand(): void {
    this.#state = "stands";
    this.#failures = 0;
    this.#standing.resolve();
    for (const subscriber of this.#subscribers) subscriber.stand();
  }

  #fail(error: PagewireError): void {
    const subscribers = [...this.#subscribers];
    this.#state = "unknown";
    if (!error.retryable) {
      this.#subscribers.clear();
      this.#end(error);
      return subscribers.forEach((subscriber) => subscriber.refuse(error));
    }
    if (this.#live) {
      const delay = delayMs(this.#failures++, this.#page.backoff, 0, Math.random);
      this.#retry = setTimeout(() => void this.#ask(), delay);
    }
    for (const subscriber of subscribers) subscriber.trouble(error);
  }

  #end(error: PagewireError): void {
    this.#turn += 1;
    clearTimeout(this.#retry);
    this.#standing.reject(error);
    this.#page.ended();
  }
}
