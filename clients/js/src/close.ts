// What a close code means for the client. Pure.

/** What to do after a socket has closed. */
export interface Verdict {
  /** Come back, after a back-off. */
  reconnect: boolean;
  /** The token was refused: only with a new one. */
  renewToken: boolean;
  /** The page is of no use any more. */
  forgetPage: boolean;
  /** As the answer to `hello`: the server does not accept the ids and the proof in it. */
  refusesIds: boolean;
  /** The delay that the server advises, 0 for none. */
  advisedMs: number;
  /** What the server said, for people. */
  reason: string;
  /** Why the page ended, if this ends it. */
  ending: string;
}

const MALFORMED_HELLO = 4000;
const UNAUTHENTICATED = 4001;
const FORBIDDEN = 4003;
const REPLACED = 4006;
const UNREGISTERED = 4007;
const TOKEN_EXPIRED = 4504;
/** The reason of a 4003 before `hello`: no identity could help, only another configuration of the server. */
const ORIGIN = "origin";

/** Codes 4000–4499 end the page; every other one, also an unknown one, means to come back. */
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

/** The error code of a page that ended with a close code. */
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
