// What a page loads at first stays small. Comments are not counted: whoever serves the client for many strips them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

/** The modules that a page loads with the client; others are loaded on demand. */
const CORE = ["index", "connection", "decoder", "error", "queue", "wake"];

/**
 * The source without comments, blank lines and indentation. Strings and regular expressions are left alone.
 *
 * @param {string} source
 */
function stripped(source) {
  const token = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=[=(,:]\s*)\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  const code = source.replace(token, (it) => (it.startsWith("/*") || it.startsWith("//") ? "" : it));
  return code.replace(/^[ \t]+|[ \t]+$/gm, "").replace(/\n+/g, "\n");
}

test("the core is at most 6 KiB in gzip, and depends on nothing but itself", () => {
  const sources = CORE.map((name) => readFileSync(new URL(`../src/${name}.js`, import.meta.url), "utf8"));
  const code = sources.map(stripped).join("\n");
  for (const [, module] of code.matchAll(/(?:from|import) "([^"]+)"/g)) {
    assert(CORE.some((name) => module === `./${name}.js`), module);
  }
  const bytes = gzipSync(code, { level: 9 }).length;
  console.log(`# ${bytes} bytes`);
  assert(bytes <= 6 * 1024, `${bytes} bytes`);
});
