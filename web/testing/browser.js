// Debian's Chromium, without a window.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").BrowserContext} BrowserContext */

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
