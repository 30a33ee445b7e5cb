// Debian's Chromium, without a window.
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

/** Whoever is there first. */
const NAMES = ["chromium", "chromium-browser", "google-chrome"];

function program() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const found = NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  if (!found) throw new Error("there is no chromium: run `cargo xtask setup`");
  return found;
}

/**
 * A browser. Its pages keep their back-forward cache, which drivers switch off by default.
 *
 * @param {...string} flags
 */
export function launch(...flags) {
  return chromium.launch({
    executablePath: program(),
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: ["--no-sandbox", ...flags],
  });
}

/**
 * A browser as its users have it: of the tabs of its one window, one is seen and the others are hidden. Drivers make all of them visible
 * otherwise, and what is visible is never frozen.
 *
 * @param {...string} flags
 */
export async function launchWindow(...flags) {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  const browser = await launch(`--remote-debugging-port=${port}`, ...flags);
  const seen = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
  return { window: seen.contexts()[0], close: () => browser.close() };
}
