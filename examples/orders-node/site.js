// The web site of the board: its page, and a login that issues a token (JWT, HS256) with the standard library.
//
// Usage: node site.js [PORT]. It reads the secret that the node has, too: PAGEWIRE_AUTH__HS256_SECRET. The address of the
// node is in PAGEWIRE_URL (http://127.0.0.1:8080 without it).
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const NODE = (process.env.PAGEWIRE_URL ?? "http://127.0.0.1:8080").replace(/\/$/, "");
const SECRET = process.env.PAGEWIRE_AUTH__HS256_SECRET ?? "";
const FILES = {
  "/": ["board.html", "text/html"],
  "/board.js": ["board.js", "text/javascript"],
  "/board.css": ["board.css", "text/css"],
};
const HOUR = 3600;
const MAX_BODY = 4096;

/** Returns a token of a user that is valid for an hour. */
function token(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + HOUR;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

async function body(request) {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > MAX_BODY) break;
  }
  return text;
}

/** Returns the status, the type and the body of the answer. */
async function answer(request) {
  const { pathname } = new URL(request.url, "http://site");
  if (request.method === "POST" && pathname === "/login") return login(await body(request));
  if (pathname === "/pagewire.js") {
    // every node serves the browser client
    const client = await fetch(`${NODE}/pagewire.js`);
    return [200, "text/javascript", await client.text()];
  }
  if (pathname === "/settings") return json(200, { socket: `${NODE.replace(/^http/, "ws")}/_ws` });
  if (!Object.hasOwn(FILES, pathname)) return json(404, { error: "there is no such page" });
  const [name, type] = FILES[pathname];
  return [200, type, await readFile(new URL(name, import.meta.url))];
}

function login(text) {
  let user = "";
  try {
    user = String(JSON.parse(text).user).trim();
  } catch {
    // no name, which is refused below
  }
  // the example believes the name; a real login checks a password or an identity provider here
  if (!/^[a-z0-9]{1,20}$/.test(user)) return json(400, { error: "a name has 1 to 20 small letters or digits" });
  return json(200, { token: token(user) });
}

function json(status, value) {
  return [status, "application/json", JSON.stringify(value)];
}

if (SECRET.length < 32) {
  console.error("PAGEWIRE_AUTH__HS256_SECRET has at least 32 characters, the same for the site and the node");
  process.exit(1);
}

const site = createServer(async (request, response) => {
  const [status, type, content] = await answer(request).catch((error) => json(502, { error: error.message }));
  response.writeHead(status, { "content-type": `${type}; charset=utf-8`, "cache-control": "no-store" }).end(content);
});
site.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`the board is at http://127.0.0.1:${site.address().port}`);
});
