// A supervisor that welcomes one process and drains it.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { frame, FrameReader, type Message } from "../../src/worker/wire.js";

/** Returns the path of its socket, and the first message of the process. */
export async function serveOnce(t: TestContext): Promise<{ path: string; drained: Promise<Message> }> {
  const folder = mkdtempSync(join(tmpdir(), "pagewire-"));
  const path = join(folder, "socket");
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  const drained = new Promise<Message>((resolve) => {
    server.once("connection", (socket) => {
      const reader = new FrameReader();
      socket.on("data", (chunk: Buffer) => {
        for (const message of reader.read(chunk)) {
          if (message.t !== "ready") continue;
          socket.write(Buffer.concat([frame({ t: "welcome", protocol: 1 }), frame({ t: "drain", within_ms: 1000 })]));
          resolve(message);
        }
      });
    });
  });
  return { path, drained };
}
