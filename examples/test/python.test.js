// The Python module's own tests.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

import { TOOLS } from "../testing/example.js";

test("the Python module's tests pass", () => {
  const ran = spawnSync(join(TOOLS, "venv/bin/python"), ["-W", "error", "-m", "unittest"], {
    cwd: new URL("../python", import.meta.url),
    env: { SSE_SERVER_PROGRAM: new URL("../../target/debug/sse-server", import.meta.url).pathname, ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
    encoding: "utf8",
  });
  assert.equal(ran.error, undefined);
  assert.equal(ran.status, 0, ran.stderr);
  assert.match(ran.stderr, /Ran \d{2} tests/);
  assert.doesNotMatch(ran.stderr, /skipped/);
});
