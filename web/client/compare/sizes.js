// What a page loads for each client: bundled and minified by esbuild for browsers, in gzip; and how many packages come along.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const ENTRIES = {
  ours: `export { SSEConnection } from "../src/index.js"`,
  eventsource: `export { EventSource } from "eventsource"`,
  "fetch-event-source": `export { fetchEventSource } from "@microsoft/fetch-event-source"`,
  "event-source-plus": `export { EventSourcePlus } from "event-source-plus"`,
  "launchdarkly-eventsource": `import { EventSource } from "launchdarkly-eventsource"; globalThis.EventSource = EventSource`,
};
const PACKAGES = { "fetch-event-source": "@microsoft/fetch-event-source" };

/** What a package needs, all the way down. */
function needed(name, all = new Set()) {
  const manifest = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8"));
  for (const other of Object.keys(manifest.dependencies ?? {})) {
    if (all.has(other)) continue;
    all.add(other);
    needed(other, all);
  }
  return all;
}

export async function sizes() {
  const lines = [];
  for (const [name, contents] of Object.entries(ENTRIES)) {
    const packages = name === "ours" ? 0 : needed(PACKAGES[name] ?? name).size;
    let size;
    try {
      const stdin = { contents, resolveDir: import.meta.dirname };
      const options = { stdin, bundle: true, minify: true, format: "esm", platform: "browser", target: "es2022", write: false, logLevel: "silent" };
      const { outputFiles } = await build({ ...options, splitting: true, outdir: "out" });
      const main = outputFiles.find((it) => it.path.endsWith("stdin.js"));
      size = `${gzipSync(main.contents, { level: 9 }).length} bytes`;
    } catch (error) {
      size = `does not bundle: ${error.errors?.map((it) => it.text.match(/"(.*?)"/)?.[1]).join(", ")}`;
    }
    lines.push(`${name}: ${size}, other packages: ${packages}`);
  }
  lines.push(`better-sse exports: ${Object.keys(await import("better-sse")).join(", ")}`);
  return lines.join("\n");
}
