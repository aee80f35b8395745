// A Chromium with windows, controlled by its DevTools protocol.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
const QUIET = ["--disable-background-networking", "--disable-component-update", "--window-size=1280,900"];

/** A window of the browser. */
class Window {
  #socket;
  #sent = 0;
  #answers = new Map();

  static async over(url) {
    const window = new Window();
    window.#socket = new WebSocket(url);
    window.#socket.onmessage = ({ data }) => {
      const answer = JSON.parse(data);
      window.#answers.get(answer.id)?.(answer);
    };
    await once(window.#socket, "open");
    return window;
  }

  async #ask(method, params) {
    const id = ++this.#sent;
    const answered = new Promise((resolve) => this.#answers.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await answered;
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** Returns the value of an expression, or of the promise that it is. */
  async evaluate(expression) {
    const asked = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#ask("Runtime.evaluate", asked);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Writes what the window shows to target/screenshots. */
  async screenshot(name) {
    const { data } = await this.#ask("Page.captureScreenshot", { format: "png" });
    const folder = join(ROOT, "target/screenshots");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${name}.png`), Buffer.from(data, "base64"));
  }
}

/** A browser with a profile of its own. */
export class Chromium {
  #process;
  #profile;
  #address;

  static async start() {
    const browser = new Chromium();
    browser.#profile = await mkdtemp(join(tmpdir(), "pagewire-chromium-"));
    const own = ["--remote-debugging-port=0", `--user-data-dir=${browser.#profile}`];
    browser.#process = spawn("chromium", [...FLAGS, ...QUIET, ...own], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    for await (const text of browser.#process.stderr) {
      said += text;
      const [, address] = said.match(/listening on ws:\/\/([^/]+)\//) ?? [];
      if (!address) continue;
      browser.#address = address;
      break;
    }
    if (!browser.#address) throw new Error(`Chromium does not start: ${said}`);
    return browser;
  }

  async open(url) {
    const answer = await fetch(`http://${this.#address}/json/new?${encodeURIComponent(url)}`, { method: "PUT" });
    return Window.over((await answer.json()).webSocketDebuggerUrl);
  }

  async stop() {
    this.#process.kill("SIGKILL");
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
