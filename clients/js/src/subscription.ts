import type { PagewireError } from "./error.js";
import type { Delivery, Message } from "./types.js";

/** Options of a subscription. */
export interface SubscribeOptions {
  /** For a topic that is not open to all: asked for a token that names it, each time the page subscribes. */
  token?: () => string | Promise<string>;
}

/** The events of a subscription. */
export interface SubscriptionEvents {
  /** A message for the topic. */
  message: Message;
  /**
   * The page could not subscribe. If the error is `retryable` it tries again by itself; else the subscription has
   * ended.
   */
  error: PagewireError;
}

/** Messages for a topic, over lost sockets, moves to other nodes, resets and new pages, until it is closed. */
export interface Subscription {
  readonly topic: string;
  /** Resolves when messages for the topic reach this page; rejects when the subscription has ended before. */
  readonly ready: Promise<void>;
  /** Listens until the returned function is called. */
  on<Type extends keyof SubscriptionEvents>(
    type: Type,
    listener: (event: SubscriptionEvents[Type]) => void,
  ): () => void;
  /** Sends to all pages of the topic, this one too, as soon as the page is subscribed; the server has to allow it. */
  send(payload: unknown): Promise<Delivery>;
  /** The end. The last one of a topic unsubscribes the page; resolves when the server has done so. */
  close(): Promise<void>;
}
