// Debian's Firefox, without a window, driven over WebDriver BiDi.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

import puppeteer from "puppeteer-core";

/** Whoever is there first. */
const NAMES = ["firefox-esr", "firefox"];

/** A browser, with a profile of its own. */
export function launchFirefox() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const executablePath = NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  if (!executablePath) throw new Error("there is no firefox: run `cargo xtask setup`");
  return puppeteer.launch({ browser: "firefox", executablePath, headless: true });
}
