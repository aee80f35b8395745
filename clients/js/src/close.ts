// Maps close codes to actions of the client. Pure.

/** The action after a socket has closed. */
export interface Verdict {
  /** Reconnect, after a back-off. */
  reconnect: boolean;
  /** The token was rejected: reconnect only with a new one. */
  renewToken: boolean;
  /** The page cannot be resumed any more. */
  forgetPage: boolean;
  /** The socket was closed in reply to `hello`: the server rejects the ids and the proof in it. */
  refusesIds: boolean;
  /** The delay in ms that the server advises, 0 for none. */
  advisedMs: number;
  /** The server's reason, for people. */
  reason: string;
  /** The error code of the page, if this ends it. */
  ending: string;
}

const MALFORMED_HELLO = 4000;
const UNAUTHENTICATED = 4001;
const FORBIDDEN = 4003;
const REPLACED = 4006;
const UNREGISTERED = 4007;
const TOKEN_EXPIRED = 4504;
/** The reason of a 4003 before `hello`: only another configuration of the server could help, no other identity. */
const ORIGIN = "origin";

/**
 * Returns the action for a close code. Codes 4000–4499 end the page; after every other code, even an unknown one, the
 * client reconnects.
 */
export function verdict(code: number, text: string): Verdict {
  const said = advice(text);
  const origin = code === FORBIDDEN && said.reason === ORIGIN;
  return {
    reconnect: code < 4000 || code > 4499,
    renewToken: code === UNAUTHENTICATED || code === TOKEN_EXPIRED,
    forgetPage: code === REPLACED || code === UNREGISTERED,
    refusesIds: code === MALFORMED_HELLO || code === UNAUTHENTICATED || (code === FORBIDDEN && !origin),
    advisedMs: said.advisedMs,
    reason: origin ? foreign() : said.reason,
    ending: origin ? ORIGIN : ending(code),
  };
}

function foreign(): string {
  const here = globalThis.location?.origin ?? "this origin";
  return `the server accepts no pages of ${here}: its configuration key websocket.origins does not list it`;
}

/** Returns the error code of a page that ended with a close code. */
function ending(code: number): string {
  switch (code) {
    case MALFORMED_HELLO:
      return "malformed";
    case UNAUTHENTICATED:
    case TOKEN_EXPIRED:
      return "unauthenticated";
    case FORBIDDEN:
      return "forbidden";
    case REPLACED:
      return "replaced";
    case UNREGISTERED:
      return "unregistered";
    default:
      return "closed";
  }
}

function advice(text: string): { advisedMs: number; reason: string } {
  try {
    const { retry_after_ms: delay, reason } = JSON.parse(text) as { retry_after_ms?: unknown; reason?: unknown };
    return {
      advisedMs: typeof delay === "number" && delay > 0 ? delay : 0,
      reason: typeof reason === "string" ? reason : "",
    };
  } catch {
    return { advisedMs: 0, reason: text };
  }
}
