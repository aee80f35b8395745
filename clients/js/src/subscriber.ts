import { Deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { PagewireError } from "./error.js";
import type { SubscribeOptions, Subscription, SubscriptionEvents } from "./subscription.js";
import type { Delivery, Message } from "./types.js";

/** The operations of a subscription on its topic. */
export interface Room {
  send(payload: unknown): Promise<Delivery>;
  leave(subscriber: Subscriber): Promise<void>;
}

/** One of the subscriptions of a topic. */
export class Subscriber extends Emitter<SubscriptionEvents> implements Subscription {
  readonly topic: string;
  readonly token: SubscribeOptions["token"];
  readonly #room: Room;
  readonly #ready = new Deferred<void>();
  #ended: PagewireError | undefined;

  constructor(topic: string, token: SubscribeOptions["token"], room: Room) {
    super();
    this.topic = topic;
    this.token = token;
    this.#room = room;
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  async send(payload: unknown): Promise<Delivery> {
    if (this.#ended) throw this.#ended;
    return this.#room.send(payload);
  }

  close(): Promise<void> {
    this.#end(new PagewireError("closed", "the subscription was closed"));
    return this.#room.leave(this);
  }

  /** Reports that the page is subscribed. */
  stand(): void {
    this.#ready.resolve();
  }

  take(message: Message): void {
    this.emit("message", message);
  }

  /** Reports that the page could not subscribe for now. */
  trouble(error: PagewireError): void {
    this.emit("error", error);
  }

  /** Reports that the page may not subscribe. */
  refuse(error: PagewireError): void {
    this.#end(error);
    this.emit("error", error);
  }

  #end(error: PagewireError): void {
    this.#ended ??= error;
    this.#ready.reject(error);
  }
}
