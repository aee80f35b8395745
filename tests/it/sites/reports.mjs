// A program in Node without packages, for the tests of mounts with a command. It knows nothing of Pagewire.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer } from "node:http";

/** Waits until a file exists. */
async function file(path) {
  while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 5));
}

const server = createServer(async (request, response) => {
  const [path, query] = request.url.split("?");
  if (path === "/health") {
    response.statusCode = existsSync(process.env.HEALTHY) ? 404 : 503;
    response.end();
  } else if (path === "/stream") {
    response.write("first");
    await file(query);
    response.end("second");
  } else if (request.method === "POST") {
    let size = 0;
    for await (const part of request) size += part.length;
    response.end(`${size}`);
  } else {
    const { pid, env, argv } = process;
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ pid, env, argv: argv.slice(2), url: request.url, headers: request.headers }));
  }
});

// a WebSocket that returns each short message
server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = createHash("sha1").update(key).digest("base64");
  const head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"];
  socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, "", ""].join("\r\n"));
  socket.on("data", (frame) => {
    const length = frame[1] & 127;
    const text = frame.subarray(6, 6 + length).map((byte, at) => byte ^ frame[2 + (at % 4)]);
    socket.write(Buffer.concat([Buffer.from([frame[0], length]), text]));
  });
  socket.on("end", () => socket.end());
  socket.on("error", () => {});
});

if (process.argv.includes("--stay")) {
  process.on("SIGTERM", () => console.log("it stays"));
} else {
  process.on("SIGTERM", () => {
    console.log("it ends");
    server.close();
    server.closeIdleConnections();
  });
}

const [at] = process.argv.slice(2);
const address = at ?? process.env.PORT ?? process.env.SOCKET;
server.listen(/^\d+$/.test(address) ? { host: "127.0.0.1", port: Number(address) } : { path: address });
