import type { PagewireError } from "./error.js";
import type { Requests } from "./requests.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import { Topic } from "./topic.js";
import type { Backoff, Message, Registered } from "./types.js";

/** The topics of a page, each of them subscribed to once, however many subscriptions it has here. */
export class Topics {
  readonly #requests: Requests;
  readonly #backoff: Backoff;
  readonly #topics = new Map<string, Topic>();
  /** What the server was asked to send no more of, and has not answered. */
  readonly #leaving = new Set<string>();
  #live = false;

  constructor(requests: Requests, backoff: Backoff) {
    this.#requests = requests;
    this.#backoff = backoff;
  }

  subscribe(name: string, { token }: SubscribeOptions): Subscription {
    const known = this.#topics.get(name);
    if (known) return known.subscribe(token);
    const topic = this.#begin(name);
    const subscription = topic.subscribe(token);
    if (this.#live) topic.open(true);
    return subscription;
  }

  /** A socket is registered. A page that was recovered has its topics still. */
  open(recovered: Registered["recovered"]): void {
    this.#live = true;
    for (const topic of this.#topics.values()) topic.open(recovered === "recovered");
  }

  /** The socket is gone. */
  pause(): void {
    this.#live = false;
    for (const topic of this.#topics.values()) topic.pause();
  }

  /** There will be no next socket for this page. */
  close(error: PagewireError): void {
    for (const topic of this.#topics.values()) topic.close(error);
  }

  take(message: Message): void {
    if (message.topic === undefined) return;
    const topic = this.#topics.get(message.topic);
    if (topic) topic.take(message);
    // on its way when the last subscription was closed, or the predecessor of a reloaded document had one
    else if (!this.#leaving.has(message.topic)) void this.#unsubscribe(message.topic);
  }

  #begin(name: string): Topic {
    const topic = new Topic(name, {
      requests: this.#requests,
      backoff: this.#backoff,
      ended: () => this.#topics.delete(name),
      unsubscribe: () => this.#unsubscribe(name),
    });
    this.#topics.set(name, topic);
    return topic;
  }

  /** Whatever the answer is, the server has heard it: what it sends all the same leads to another one. */
  #unsubscribe(topic: string): Promise<void> {
    this.#leaving.add(topic);
    return new Promise((resolve) => {
      const over = (): true => {
        this.#leaving.delete(topic);
        resolve();
        return true;
      };
      this.#requests.add({ type: "unsubscribe", topic }, { take: over, fail: over });
    });
  }
}
