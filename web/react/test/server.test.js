// The hooks where there is no browser.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { REACTS } from "../../testing/react.js";
import { resolvingFrom } from "../../testing/resolve.js";
import { Server, stream } from "../../testing/server.js";

/** @param {string} url */
const page = (url) => `
  import { createElement as h, version } from "react";
  import { renderToString } from "react-dom/server";
  import { useJob, useSSE, useTokens } from "sse-server-react";

  function App() {
    const { data, state, isConnected, error } = useSSE(${JSON.stringify(url)}, { event: "count" });
    const none = useSSE(null);
    const { percent, isDone, job } = useJob("a", { url: ${JSON.stringify(url)} });
    const { text, done } = useTokens("answer", { url: ${JSON.stringify(url)} });
    return h("p", null, JSON.stringify([data, state, isConnected, error, none.state, percent, isDone, job, text, done]));
  }
  process.stdout.write(version + renderToString(h(App)));
`;

for (const [version, folder] of Object.entries(REACTS)) {
  test(`a server renders with React ${version}, connects nothing, and has nothing left to do`, async () => {
    const server = new Server(stream(""));
    const url = await server.start();
    try {
      const imports = ["--import", resolvingFrom(folder, /^react(-dom)?(\/|$)/)];
      const { stdout, stderr } = await promisify(execFile)(
        process.execPath,
        [...imports, "--input-type=module", "--eval", page(url)],
        { cwd: REACTS[19], timeout: 20_000 },
      );
      assert.match(stdout, new RegExp(`^${version}\\.`));
      const [, html = ""] = stdout.match(/<p>(.*)<\/p>/) ?? [];
      assert.equal(html.replaceAll("&quot;", '"'), '[null,"connecting",false,null,"closed",0,false,null,"",false]', stderr);
      assert.equal(server.requests.length, 0);
    } finally {
      server.stop();
    }
  });
}
