// A supervisor of one process, which is played by a test.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { frame, FrameReader, type Message } from "../../src/worker/wire.js";

/** Returns the path of its socket. `answer` returns what is sent after a message of the process. */
export async function serveOnce(t: TestContext, answer: (message: Message) => Message[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "pagewire-"));
  const path = join(folder, "socket");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  server.once("connection", (socket) => {
    const reader = new FrameReader();
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const message of reader.read(chunk)) socket.write(Buffer.concat(answer(message).map(frame)));
    });
  });
  return path;
}
