// What the packages hold: every file that their `exports` name, types too.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

for (const name of ["client", "react"]) {
  test(`the package of ${name} holds what it exports`, () => {
    const folder = new URL(`../../${name}/`, import.meta.url);
    const types = new URL("types/", folder);
    const hadTypes = existsSync(types);
    try {
      const said = execFileSync("npm", ["pack", "--dry-run", "--json", "--silent"], { cwd: fileURLToPath(folder), encoding: "utf8" });
      // In front of it stands what `prepack` says; newer versions of npm put the name before each package.
      const told = JSON.parse(said.slice(said.search(/^[[{]/m)));
      const [{ files }] = Array.isArray(told) ? told : Object.values(told);
      const held = files.map((/** @type {{path: string}} */ { path }) => `./${path}`);
      const { exports } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"));
      for (const path of Object.values(exports).flatMap((entry) => Object.values(entry))) assert(held.includes(path), path);
      assert.deepEqual(held.filter((/** @type {string} */ path) => /test|compare|bench/.test(path)), []);
    } finally {
      // Left here, they would stand before the sources in other checks.
      if (!hadTypes) rmSync(types, { recursive: true, force: true });
    }
  });
}
