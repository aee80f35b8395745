import { createContext, createElement, useContext, useMemo, useSyncExternalStore, type ReactNode } from "react";
import type { ApiMap, Level, UntypedApi } from "pagewire";
import { JobStore, PageStore, TreeStore } from "./stores.js";
import type { AnyPage, JobStatus, PageStatus, TreeStatus } from "./types.js";

const PageContext = createContext<AnyPage | undefined>(undefined);

/**
 * Gives a page to all components below. A page belongs to the document, not to a component, so the program creates and
 * connects it:
 *
 * ```tsx
 * const page = new Pagewire<Api>();
 * void page.connect();
 * createRoot(root).render(<PageProvider page={page}><App /></PageProvider>);
 * ```
 */
export function PageProvider(props: { page: AnyPage; children?: ReactNode }): ReactNode {
  return createElement(PageContext.Provider, { value: props.page }, props.children);
}

function useProvided(): AnyPage {
  const page = useContext(PageContext);
  if (!page) throw new Error("there is no <PageProvider page={…}> above this component");
  return page;
}

/** Returns the page and its state: `const { page, state } = usePage<Api>()`. */
export function usePage<Api extends ApiMap<Api> = UntypedApi>(): PageStatus<Api> {
  const store = PageStore.of(useProvided());
  return useSyncExternalStore(store.subscribe, store.current, store.current) as PageStatus<Api>;
}

/** Watches a path of a tree while the component is shown. Throws if the path is invalid. */
export function useTree<Value = unknown>(level: Level, path = ""): TreeStatus<Value> {
  const page = useProvided();
  const store = useMemo(() => new TreeStore(page, level, path), [page, level, path]);
  return useSyncExternalStore(store.subscribe, store.current, store.current);
}

/** Submits jobs of a kind and shows the last one: `const report = useJob<{ rows: number }>("report")`. */
export function useJob<Result = unknown, Data = unknown>(kind: string): JobStatus<Result, Data> {
  const page = useProvided();
  const store = useMemo(() => new JobStore(page, kind), [page, kind]);
  return useSyncExternalStore(store.subscribe, store.current, store.current);
}
