// An example as its README says, on ports of its own.
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const EXAMPLES = new URL("..", import.meta.url).pathname;
const HUB = process.env.SSE_SERVER_PROGRAM ?? new URL("../../target/debug/sse-server", import.meta.url).pathname;
const WEB_PACKAGES = new URL("../../web/node_modules", import.meta.url).pathname;
/** Where `cargo xtask setup` has put Python's, Node's and Go's packages. */
export const TOOLS = process.env.EXAMPLE_TOOLS ?? new URL("../../target/tools/clients", import.meta.url).pathname;

export class Example {
  /** The application's URL. */
  url = "";
  hubUrl = "";
  modelUrl = "";
  #folder = mkdtempSync(join(tmpdir(), "sse-example-"));
  /** @type {string[]} */
  #commands;
  /** @type {Map<string, import("node:child_process").ChildProcess>} */
  #processes = new Map();
  /** Another port than the README's for each. @type {[string, string][]} */
  #ports;
  #name;
  #hubFlags = "";
  #log = "";

  /**
   * @param {string} name
   * @param {[string, string][]} ports
   */
  constructor(name, ports) {
    this.#name = name;
    this.#ports = ports;
    cpSync(EXAMPLES, this.#folder, { recursive: true, filter: (path) => !/node_modules|dist$/.test(path) });
    symlinkSync(join(TOOLS, "node_modules"), join(this.#folder, "node_modules"));
    symlinkSync(WEB_PACKAGES, join(this.#folder, "react/node_modules"));
    for (const file of /** @type {string[]} */ (readdirSync(this.#folder, { recursive: true }))) {
      if (!/\.(html|mjs|jsx|json|py|go|md)$/.test(file) || file.includes("node_modules")) continue;
      const path = join(this.#folder, file);
      writeFileSync(path, this.#here(readFileSync(path, "utf8")));
    }
    this.#commands = commands(readFileSync(join(this.#folder, name, "README.md"), "utf8"));
    const [app = "", hub = "", model = ""] = ports.map(([, port]) => `http://127.0.0.1:${port}`);
    this.url = app;
    this.hubUrl = hub;
    this.modelUrl = model;
  }

  /**
   * Starts what the first commands of the README start: the hub, and the application.
   *
   * @param {string} name Its folder.
   * @param {{programs?: number, hubFlags?: string}} [how]
   */
  static async start(name, { programs = 2, hubFlags = "" } = {}) {
    const ports = await Promise.all(["5000", "8080", "9000"].map(async (port) => /** @type {[string, string]} */ ([port, await freePort()])));
    const example = new Example(name, ports);
    example.#hubFlags = hubFlags;
    try {
      for (const command of example.#commands.slice(0, programs)) await example.#start(command);
      return example;
    } catch (error) {
      await example.stop();
      throw error;
    }
  }

  /** The commands of the README that come after those. */
  get commands() {
    return this.#commands.slice(2);
  }

  /** @param {string} command */
  async run(command) {
    const program = this.#spawn(command);
    let said = "";
    program.stdout?.on("data", (text) => (said += text));
    const code = await new Promise((resolve) => program.on("close", resolve));
    if (code !== 0) throw new Error(`${command}: ${code} ${this.#log}`);
    return said;
  }

  /** A crash of the hub, and its return. */
  async restartHub() {
    await this.kill("sse-server");
    await this.#start(this.#command("sse-server"));
  }

  /** @param {string} name What the command begins with. */
  async kill(name) {
    await kill(this.#processes.get(this.#command(name)));
  }

  /**
   * Stops a program where it is, until `resume`.
   *
   * @param {string} name What the command begins with.
   */
  pause(name) {
    this.#signal(name, "SIGSTOP");
  }

  /** @param {string} name */
  resume(name) {
    this.#signal(name, "SIGCONT");
  }

  /**
   * @param {string} name
   * @param {NodeJS.Signals} signal
   */
  #signal(name, signal) {
    const pid = this.#processes.get(this.#command(name))?.pid;
    if (!pid) throw new Error(`${name} does not run`);
    process.kill(-pid, signal);
  }

  /** @param {string} name */
  #command(name) {
    const found = this.#commands.find((command) => command.startsWith(name));
    if (!found) throw new Error(`no command begins with ${name}`);
    return found;
  }

  async stop() {
    await Promise.all([...this.#processes.values()].map(kill));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** @param {string} text */
  #here(text) {
    return this.#ports.reduce((so_far, [from, to]) => so_far.replaceAll(from, to), text);
  }

  /** @param {string} command */
  async #start(command) {
    const isHub = command.startsWith("sse-server ");
    const hub = `${HUB} --listen ${new URL(this.hubUrl).host} --log off ${this.#hubFlags}`;
    const program = this.#spawn(isHub ? command.replace("sse-server", hub) : command);
    this.#processes.set(command, program);
    const url = isHub ? `${this.hubUrl}/livez` : command.includes("model") ? this.modelUrl : this.url;
    const until = Date.now() + 30_000;
    while (!(await answers(url))) {
      if (program.exitCode !== null) throw new Error(`${command}: ended with ${program.exitCode}: ${this.#log}`);
      if (Date.now() > until) throw new Error(`${command}: nothing answers at ${url}: ${this.#log}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** @param {string} command */
  #spawn(command) {
    // What begins with SSE_ is a setting of the hub.
    const settings = Object.entries(process.env).filter(([name]) => !name.startsWith("SSE_"));
    const program = spawn("sh", ["-c", command.replace(/^((\w+=\S+ )*)/, "$1exec ")], {
      cwd: join(this.#folder, this.#name),
      env: {
        ...Object.fromEntries(settings),
        PATH: [join(TOOLS, "venv/bin"), process.env.PATH].join(delimiter),
        GOCACHE: join(TOOLS, "../go-cache"),
        PYTHONDONTWRITEBYTECODE: "1",
      },
      stdio: ["ignore", "pipe", "pipe"],
      // So that what it starts ends with it.
      detached: true,
    });
    program.stdout?.resume();
    program.stderr?.on("data", (text) => (this.#log += text));
    return program;
  }
}

/**
 * The lines of a README's shell blocks.
 *
 * @param {string} readme
 */
function commands(readme) {
  const blocks = [...readme.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block = ""]) => block);
  return blocks.join("").trim().split("\n");
}

/** @param {import("node:child_process").ChildProcess | undefined} program */
async function kill(program) {
  if (!program?.pid || program.exitCode !== null || program.signalCode !== null) return;
  const ended = new Promise((resolve) => program.on("exit", resolve));
  process.kill(-program.pid, "SIGKILL");
  await ended;
}

/** @returns {Promise<string>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(String(port)));
    });
  });
}

/** @param {string} url */
function answers(url) {
  return fetch(url, { signal: AbortSignal.timeout(1000) }).then(
    (answer) => answer.ok,
    () => false,
  );
}
