// A server that has lost its keys, and the tabs of one browser that return to it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bench, MemoryStorage, type Bench, type ClientFrame, type FakeSocket } from "./fake.js";

/** A server of one browser that assigns numbered ids and accepts the tokens that it has issued. */
class Server {
  #life = 0;
  #count = 0;
  #tokens = new Map<string, { connection_id: string; session_id: string }>();

  /** Restarts without any data. */
  restart(): void {
    this.#life += 1;
    this.#tokens.clear();
  }

  /** Replies to the `hello` of a socket. Returns whether it was accepted. */
  answer(socket: FakeSocket): boolean {
    if (socket.readyState === 0) socket.open();
    const hello = socket.of("hello")[0] as ClientFrame & { resume?: { token: string } };
    const known = hello.resume && this.#tokens.get(hello.resume.token);
    if (hello.resume && !known) {
      socket.end(4003, '{"reason":"resuming a page needs its token"}');
      return false;
    }
    const fresh = (kind: string): string => `${kind}${this.#life}.${++this.#count}|p01`;
    const connection_id = known?.connection_id ?? fresh("c");
    const session_id = hello["session_id"] && known ? String(hello["session_id"]) : fresh("s");
    const token = fresh("t");
    this.#tokens.set(token, { connection_id, session_id });
    socket.register("new", { connection_id, session_id, page_id: fresh("p"), token });
    return true;
  }
}

/** Replies to the sockets of a tab from its n-th on until one is accepted. Returns the number of the next one. */
async function settle(server: Server, { socket }: Bench, from: number): Promise<number> {
  for (let count = from; ; count++) if (server.answer(await socket(count))) return count + 1;
}

/** Returns two tabs of one session: the first opened the second, with a copy of its session storage. */
async function twoTabs(server: Server): Promise<{ tabs: [Bench, Bench]; local: MemoryStorage }> {
  const local = new MemoryStorage();
  const own = new MemoryStorage();
  const first = bench({ local_storage: local, session_storage: own });
  void first.page.connect();
  await settle(server, first, 1);
  const copy = new MemoryStorage();
  copy.setItem("pagewire.session", own.getItem("pagewire.session") ?? "");
  const second = bench({ local_storage: local, session_storage: copy });
  void second.page.connect();
  await settle(server, second, 1);
  assert.equal(second.page.registered?.session_id, first.page.registered?.session_id);
  return { tabs: [first, second], local };
}

function together(...tabs: Bench[]): void {
  const ids = tabs.map(({ page }) => [page.registered?.connection_id, page.registered?.session_id]);
  for (const other of ids) assert.deepEqual(other, ids[0]);
}

for (const [one, other] of [[0, 1], [1, 0]] as const) {
  test(`tabs of one session find each other again when tab ${one + 1} comes back first`, async () => {
    const server = new Server();
    const { tabs, local } = await twoTabs(server);
    for (const tab of tabs) tab.sockets.at(-1)?.end(1006);
    server.restart();
    const early = await settle(server, tabs[one], 2);
    assert.equal(early > 2, true, "what it remembered was refused");
    await settle(server, tabs[other], 2);
    together(...tabs);
    const third = bench({ local_storage: local, session_storage: new MemoryStorage() });
    void third.page.connect();
    await settle(server, third, 1);
    assert.equal(third.page.registered?.connection_id, tabs[0].page.registered?.connection_id, "and so does a new one");
    for (const { page } of [...tabs, third]) page.close();
  });
}

test("what another tab has just learned survives the refusal of this one", async () => {
  const server = new Server();
  const { tabs, local } = await twoTabs(server);
  for (const tab of tabs) tab.sockets.at(-1)?.end(1006);
  server.restart();
  // rejected before the first tab has returned; the reply arrives late
  const late = await tabs[1].socket(2);
  late.open();
  await settle(server, tabs[0], 2);
  const learned = local.getItem("pagewire.connection");
  server.answer(late);
  assert.equal(local.getItem("pagewire.connection"), learned);
  await settle(server, tabs[1], 3);
  together(...tabs);
  for (const { page } of tabs) page.close();
});

test("tabs of different sessions come back into one connection and stay apart", async () => {
  const server = new Server();
  const local = new MemoryStorage();
  const tabs = [0, 1].map(() => bench({ local_storage: local, session_storage: new MemoryStorage() }));
  for (const tab of tabs) {
    void tab.page.connect();
    await settle(server, tab, 1);
  }
  for (const tab of tabs) tab.sockets.at(-1)?.end(1006);
  server.restart();
  for (const tab of tabs) await settle(server, tab, 2);
  const [one, other] = tabs.map(({ page }) => page.registered);
  assert.equal(one?.connection_id, other?.connection_id);
  assert.notEqual(one?.session_id, other?.session_id);
  for (const { page } of tabs) page.close();
});

test("a restart after a restart is no different", async () => {
  const server = new Server();
  const { tabs } = await twoTabs(server);
  const next = [2, 2];
  for (let round = 0; round < 20; round++) {
    for (const tab of tabs) tab.sockets.at(-1)?.end(1006);
    server.restart();
    const first = Math.random() < 0.5 ? 0 : 1;
    for (const at of [first, 1 - first] as const) next[at] = await settle(server, tabs[at]!, next[at]!);
    together(...tabs);
  }
  for (const { page } of tabs) page.close();
});
