/** What a document lives through, in the words of a page. */
export interface LifecycleEvents {
  /** Nobody looks any more; the document may vanish without another word. */
  hidden(): void;
  /** The document goes away, perhaps into the back/forward cache. */
  leave(): void;
  /** It came back from there. */
  comeback(): void;
  /** Somebody looks again, or the network is back: the socket may be dead without knowing it. */
  wake(): void;
}

/** Listens to the document, where there is one, until the returned function is called. */
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
