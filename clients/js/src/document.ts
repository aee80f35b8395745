// The environment of this document: its server, its tab, its storage.

/** Returns the address of the server's socket. */
export function socketUrl(url: string | URL = "/_ws"): string {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}

/** Returns the slot that tells this document apart from the others of its tab. */
export function slot(): string {
  if (typeof window === "undefined" || window === window.top) return "tab";
  return `frame:${window.name || window.location.pathname}`;
}

/** Returns whether this document shares the session of another one: it is an iframe, or a window opened by script. */
export function dependent(): boolean {
  return typeof window !== "undefined" && (window !== window.top || Boolean(window.opener));
}

/** Returns the browser's storage of that name, or `null` if its settings forbid it. */
export function storage(name: "localStorage" | "sessionStorage"): Storage | null {
  try {
    return (typeof window !== "undefined" && window[name]) || null;
  } catch {
    // forbidden by the browser's settings
    return null;
  }
}
