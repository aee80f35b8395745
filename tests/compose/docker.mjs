// A private Docker engine with the cluster in it. Everything is in the namespaces of this process and on a tmpfs, so
// nothing outlives this process, however it ends.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { openSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "../..");
const CGROUPS = "/sys/fs/cgroup";

/** Waits until `check` returns a truthy value. The error includes its last result. */
export async function until(what, check, within_ms = 60_000) {
  const deadline = Date.now() + within_ms;
  for (;;) {
    let last;
    try {
      const found = await check();
      if (found) return found;
      last = found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not in ${within_ms} ms: ${what} (${last})`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** dockerd with its own containerd, network, images and volumes. */
export class Docker {
  #folder;
  #process;
  #environment;

  /** Starts the engine. `variables` are the variables that docker-compose.yml reads. */
  static async start(variables) {
    if (process.pid !== 1) {
      throw new Error("this test wants namespaces of its own: python3 tests/run.py --only compose");
    }
    const docker = new Docker();
    await docker.#start(variables);
    return docker;
  }

  async #start(variables) {
    this.#folder = await mkdtemp(join(tmpdir(), "pagewire-docker-"));
    const at = (name) => join(this.#folder, name);
    await run("mount", ["-t", "tmpfs", "tmpfs", this.#folder]);
    await run("ip", ["link", "set", "lo", "up"]);
    // ignore the machine's own daemon.json
    await writeFile(at("daemon.json"), "{}");
    const log = openSync(at("log"), "a");
    const socket = `unix://${at("socket")}`;
    const options = ["--config-file", at("daemon.json"), "--data-root", at("data"), "--exec-root", at("exec")];
    options.push("--pidfile", at("pid"), "--host", socket, "--cgroup-parent", `/${this.#cgroup}`);
    this.#process = spawn("dockerd", options, { stdio: ["ignore", log, log] });
    const ended = once(this.#process, "exit").catch((error) => [error]);
    this.#environment = { ...process.env, ...variables, COMPOSE_PROJECT_NAME: "pagewire", DOCKER_HOST: socket };
    const answers = until("dockerd answers", () => this.docker("version").then(() => true));
    await Promise.race([
      answers,
      ended.then(async ([why]) => {
        const log = (await readFile(at("log"), "utf8")).slice(-2000);
        throw new Error(`no Docker engine runs on this machine, so nothing is tested: dockerd ended (${why}): ${log}`);
      }),
    ]);
  }

  get #cgroup() {
    return this.#folder.split("/").at(-1);
  }

  async #ask(program, options, variables = {}) {
    const env = { ...this.#environment, ...variables };
    const done = await run(program, options, { cwd: ROOT, env, maxBuffer: 1 << 26 });
    return done.stdout.trim();
  }

  /** Returns the output of a docker command. */
  docker(...options) {
    return this.#ask("docker", options);
  }

  /** Returns the output of a docker-compose command. */
  compose(...options) {
    return this.#ask("docker-compose", options);
  }

  /** Replaces a container by one with other variables, like a deployment of a release. The others stay. */
  deploy(service, variables, ...files) {
    return this.#ask("docker-compose", [...files.flatMap((file) => ["-f", file]), "up", "-d", "--no-deps", service], variables);
  }

  /** Returns the JSON output of a pagewire command, run in the container of a node. */
  async pagewire(node, ...options) {
    return JSON.parse(await this.compose("exec", "-T", node, "pagewire", ...options, "--json"));
  }

  /** Builds the images from the collected files. */
  images() {
    return this.#ask("python3", ["deploy/images.py", "--build"]);
  }

  /** Returns Docker's information on every container of the cluster, by service. */
  async containers() {
    const ids = (await this.compose("ps", "-q")).split("\n").filter(Boolean);
    const found = ids.length ? JSON.parse(await this.docker("inspect", ...ids)) : [];
    return Object.fromEntries(found.map((one) => [one.Config.Labels["com.docker.compose.service"], one]));
  }

  /** Stops the engine. Its files and its network end with this process; its control groups belong to the machine. */
  async stop() {
    this.#process.kill("SIGTERM");
    if (this.#process.exitCode === null) await once(this.#process, "exit");
    const groups = [this.#cgroup, ...(await readdir(CGROUPS)).map((name) => join(name, this.#cgroup))];
    for (const group of groups) await rmdir(join(CGROUPS, group)).catch(() => undefined);
    await run("umount", ["--lazy", this.#folder]);
    await rmdir(this.#folder);
  }
}
