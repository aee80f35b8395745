// A program that starts a copy of itself, and whose timer would keep it alive.
import { fork } from "node:child_process";
import { worker } from "pagewire/worker";

if (process.env.FORKED) {
  console.log(process.env.PAGEWIRE_SOCKET ? "forked: a child" : "forked: not a child");
  process.exit();
}
setInterval(() => undefined, 1000);
const app = worker();
const running = app.run();
if (app.run() !== running) console.log("it runs twice");
await new Promise((resolve) => fork(process.argv[1], { env: { ...process.env, FORKED: "1" } }).on("exit", resolve));
await running;
console.log("cleaned up");
