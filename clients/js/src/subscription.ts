import type { PagewireError } from "./error.js";
import type { Delivery, Message } from "./types.js";

/** Options of a subscription. */
export interface SubscribeOptions {
  /** Returns a token that names the topic, for a topic that is not public. Called each time the page subscribes. */
  token?: () => string | Promise<string>;
}

/** The events of a subscription. */
export interface SubscriptionEvents {
  /** A message for the topic. */
  message: Message;
  /**
   * The page could not subscribe. If the error is `retryable`, it tries again by itself; otherwise the subscription has
   * ended.
   */
  error: PagewireError;
}

/**
 * A subscription to a topic, over lost sockets, migrations to other nodes, resets and new pages, until it is closed.
 */
export interface Subscription {
  readonly topic: string;
  /** Resolves when messages for the topic reach this page; rejects if the subscription ends before. */
  readonly ready: Promise<void>;
  /** Calls `listener` for each event until the returned function is called. */
  on<Type extends keyof SubscriptionEvents>(
    type: Type,
    listener: (event: SubscriptionEvents[Type]) => void,
  ): () => void;
  /** Sends to all pages of the topic, including this one, once the page is subscribed. The server has to allow it. */
  send(payload: unknown): Promise<Delivery>;
  /**
   * Closes the subscription. The last one of a topic unsubscribes the page and resolves when the server has done so.
   */
  close(): Promise<void>;
}
