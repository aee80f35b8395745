/** The lifecycle events of a document that a page handles. */
export interface LifecycleEvents {
  /** The document is hidden and may be discarded without another event. */
  hidden(): void;
  /** The document is unloaded, perhaps into the back/forward cache. */
  leave(): void;
  /** The document returned from the back/forward cache. */
  comeback(): void;
  /** The document is visible again, or the network is back: the socket may be dead without a close event. */
  wake(): void;
}

/** Listens to the document, if there is one, until the returned function is called. */
export function watchDocument(events: LifecycleEvents): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => undefined;
  const stop = new AbortController();
  const { signal } = stop;
  const visibility = (): void => (document.hidden ? events.hidden() : events.wake());
  document.addEventListener("visibilitychange", visibility, { signal });
  window.addEventListener("online", () => events.wake(), { signal });
  window.addEventListener("pagehide", () => events.leave(), { signal });
  window.addEventListener("pageshow", (event) => event.persisted && events.comeback(), { signal });
  return () => stop.abort();
}
