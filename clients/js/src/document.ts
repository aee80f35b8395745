// Where this document lives: its server, its tab, what it may remember.

/** The address of the server's socket, seen from here. */
export function socketUrl(url: string | URL = "/_ws"): string {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}

/** Which page of its tab this document is. */
export function slot(): string {
  if (typeof window === "undefined" || window === window.top) return "tab";
  return `frame:${window.name || window.location.pathname}`;
}

/** Whether it belongs to the session of another document: an iframe, or a window opened by script. */
export function dependent(): boolean {
  return typeof window !== "undefined" && (window !== window.top || Boolean(window.opener));
}

/** The browser's storage of that name, as far as its settings allow. */
export function storage(name: "localStorage" | "sessionStorage"): Storage | null {
  try {
    return (typeof window !== "undefined" && window[name]) || null;
  } catch {
    // forbidden by the browser's settings
    return null;
  }
}
