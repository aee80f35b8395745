import type { PagewireError } from "./error.js";
import type { Requests } from "./requests.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import { Topic } from "./topic.js";
import type { Backoff, Message, Registered } from "./types.js";

/** The topics of a page. The page subscribes once to each, for any number of subscriptions in this document. */
export class Topics {
  readonly #requests: Requests;
  readonly #backoff: Backoff;
  readonly #topics = new Map<string, Topic>();
  /** Topics with an unsubscribe request that has no reply yet. */
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

  /** Handles a registered socket. A recovered page still has its topics. */
  open(recovered: Registered["recovered"]): void {
    this.#live = true;
    for (const topic of this.#topics.values()) topic.open(recovered === "recovered");
  }

  /** Handles a lost socket. */
  pause(): void {
    this.#live = false;
    for (const topic of this.#topics.values()) topic.pause();
  }

  /** Ends all subscriptions to this page, which gets no other socket. */
  close(error: PagewireError): void {
    for (const topic of this.#topics.values()) topic.close(error);
  }

  take(message: Message): void {
    if (message.topic === undefined) return;
    const topic = this.#topics.get(message.topic);
    if (topic) topic.take(message);
    // in transit when the last subscription was closed, or subscribed by the predecessor of a reloaded document
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

  /**
   * Unsubscribes. After any reply the server has processed it; a message that still arrives leads to another request.
   */
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
