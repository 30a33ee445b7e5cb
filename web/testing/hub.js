// The real server, as its users start it.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PROGRAM = process.env.SSE_SERVER_PROGRAM ?? new URL("../../target/debug/sse-server", import.meta.url).pathname;

export class Hub {
  #flags;
  /** @type {import("node:child_process").ChildProcess | null} */
  #process = null;
  #folder = mkdtempSync(join(tmpdir(), "sse-web-"));
  #log = "";
  /** Where it listens, such as `http://127.0.0.1:41234`. */
  url = "";

  /** @param {...string} flags More flags. */
  constructor(...flags) {
    this.#flags = flags;
  }

  /**
   * Starts a hub that keeps its events on disk, so that it can be killed and started again.
   *
   * @param {...string} flags
   */
  static async start(...flags) {
    const hub = new Hub(...flags);
    await hub.start();
    return hub;
  }

  async start() {
    const listen = this.url ? new URL(this.url).host : "127.0.0.1:0";
    const settings = Object.entries(process.env).filter(([name]) => !name.startsWith("SSE_"));
    const program = spawn(PROGRAM, ["--listen", listen, "--data-dir", join(this.#folder, "data"), "--log", "info", ...this.#flags], {
      env: Object.fromEntries(settings),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = program;
    program.stderr?.on("data", (text) => (this.#log += text));
    this.url = await new Promise((resolve, reject) => {
      let said = "";
      program.stdout?.on("data", (text) => {
        said += text;
        const [url] = said.match(/http:\/\/127\.0\.0\.1:\d+/) ?? [];
        if (url) resolve(url);
      });
      program.on("error", (error) => reject(new Error(`${PROGRAM} does not start: ${error}; build it with: cargo build -p sse-server`)));
      program.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${this.#log}`)));
    });
  }

  /** Ends it at once, as a crash does; `start` brings it back where it was. */
  async kill() {
    const program = this.#process;
    this.#process = null;
    if (!program || program.exitCode !== null) return;
    const ended = new Promise((resolve) => program.on("exit", resolve));
    program.kill("SIGKILL");
    await ended;
  }

  async stop() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * @param {string} path
   * @param {RequestInit} [request]
   */
  async request(path, request) {
    const answer = await fetch(this.url + path, request);
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  }

  /**
   * @param {string} path
   * @param {unknown} body
   */
  post(path, body) {
    return this.request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  }

  /** @param {unknown} event */
  publish(event) {
    return this.post("/events", event);
  }

  /** How many streams are open. */
  async streams() {
    const { active_connections: active } = await this.request("/events/stats");
    return active;
  }

  /**
   * A file of the hub's own folder.
   *
   * @param {string} name
   * @param {string} text
   */
  file(name, text) {
    const path = join(this.#folder, name);
    writeFileSync(path, text);
    return path;
  }

  /**
   * A token, as `sse-server token sign` makes it.
   *
   * @param {...string} flags
   */
  token(...flags) {
    return execFileSync(PROGRAM, ["token", "sign", ...flags], { encoding: "utf8" }).trim();
  }
}
