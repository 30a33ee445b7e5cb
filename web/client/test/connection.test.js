// What the connection does, against a server that misbehaves in every way that servers and proxies do.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { ConnectionError, SSEConnection } from "../src/index.js";
import { Server, eventually, json, status, stream } from "../../testing/server.js";

/** Without waiting, where nobody asks for it. */
const quick = { baseDelay: 1, maxDelay: 5 };

/**
 * @param {import("../../testing/server.js").Step[]} steps
 * @param {(url: string, server: Server) => Promise<void>} body
 */
async function against(steps, body) {
  const server = new Server(...steps);
  try {
    await body(await server.start(), server);
  } finally {
    server.stop();
  }
}

/**
 * The data of everything of a type, as it comes.
 *
 * @param {SSEConnection} connection
 * @param {string} type
 */
function collected(connection, type = "message") {
  /** @type {any[]} */
  const all = [];
  connection.on(type, (data) => all.push(data));
  return all;
}

test("it is an EventSource: events by type, last id, ready state", () =>
  against([stream("id: 1\ndata: a\n\nevent: x\ndata: {\"b\":2}\n\n")], async (url) => {
    const connection = new SSEConnection(url, quick);
    assert.equal(connection.readyState, SSEConnection.CONNECTING);
    /** @type {any[]} */
    const seen = [];
    connection.onopen = () => seen.push("open");
    connection.onmessage = (event) => seen.push([event.data, event.lastEventId, event.origin]);
    connection.addEventListener("x", (event) => seen.push(/** @type {MessageEvent} */ (event).data));
    connection.on("x", (data) => seen.push(data));
    await connection.connect();
    assert.equal(connection.readyState, SSEConnection.OPEN);
    await eventually("all came", () => seen.length === 4);
    assert.deepEqual(seen, ["open", ["a", "1", new URL(url).origin], '{"b":2}', { b: 2 }]);
    connection.close();
    assert.equal(connection.readyState, SSEConnection.CLOSED);
    assert.equal(connection.error, null);
  }));

test("after each kind of break it goes on after the last id, once", () =>
  against(
    [
      stream("id: 1\ndata: a\n\nid: 2\ndata: half", { cuts: true }),
      stream("id: 2\ndata: b\n\n", { ends: true }),
      status(502, "<html>Bad Gateway</html>", { "Content-Type": "text/html" }),
      status(200, "<html>soon</html>", { "Content-Type": "text/html" }),
      stream("id: 2\ndata: b\n\nid: 3\ndata: c\n\n"),
    ],
    async (url, server) => {
      const connection = new SSEConnection(url, { ...quick, pollAfter: 0 });
      const all = collected(connection);
      await eventually("c", () => all.includes("c"));
      assert.deepEqual(all, ["a", "b", "c"]);
      assert.deepEqual(
        server.requests.map((request) => request.headers["last-event-id"]),
        [undefined, "1", "2", "2", "2"],
      );
      connection.close();
    },
  ));

test("connect and reconnect are promises, and a manual reconnect keeps the id", () =>
  against([stream("id: 7\ndata: a\n\n")], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, autoConnect: false });
    assert.equal(server.requests.length, 0);
    await connection.connect();
    await eventually("a", () => connection.lastEventId === "7");
    await connection.reconnect();
    assert.equal(server.requests[1]?.headers["last-event-id"], "7");
    connection.disconnect();
    await connection.connect();
    assert.equal(server.requests[2]?.headers["last-event-id"], "7");
    // Again and again at once: there is one connection in the end, and no other was begun beside it.
    for (let n = 0; n < 5; n += 1) {
      connection.disconnect();
      connection.connect().catch(() => {});
    }
    await connection.connect();
    const asked = server.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(server.requests.length, asked);
    connection.disconnect();
  }));

test("204 and what will never be better end it; attempts end it", async () => {
  for (const [steps, expected, asked] of /** @type {[any[], any, number][]} */ ([
    [[status(204)], { status: 204 }, 1],
    [[status(404, '{"detail":"no such path","code":"x"}')], { status: 404, message: "no such path", code: "x" }, 1],
    [[status(401)], { status: 401 }, 1],
    [[status(503)], { status: 503 }, 4],
  ])) {
    await against(steps, async (url, server) => {
      const connection = new SSEConnection(url, { ...quick, maxRetries: 3, pollAfter: 0, autoConnect: false });
      await assert.rejects(connection.connect(), (error) => {
        assert(error instanceof ConnectionError);
        assert.deepEqual({ ...error, message: error.message, ...expected }, { ...error, message: error.message });
        return error.isFinal;
      });
      assert.equal(server.requests.length, asked);
      assert.equal(connection.state, "closed");
    });
  }
});

test("Retry-After and the stream's retry are never undercut", () =>
  against(
    [status(503, "", { "Retry-After": "1" }), stream("retry: 300\nevent: unavailable\ndata: {\"status\":503,\"code\":\"full\"}\n\n", { ends: true }), stream("")],
    async (url) => {
      const connection = new SSEConnection(url, quick);
      /** @type {number[]} */
      const times = [];
      connection.onerror = ({ error }) => {
        times.push(Date.now());
        assert.equal(error.status, 503);
      };
      const waits = /** @type {number[]} */ ([]);
      connection.addEventListener("statechange", () => connection.state === "waiting" && waits.push((connection.retryAt ?? 0) - Date.now()));
      await eventually("open for good", () => times.length === 2 && connection.state === "open");
      assert(waits[0] >= 950 && waits[0] <= 1500, `${waits}`);
      assert(waits[1] >= 250 && waits[1] <= 450, `${waits}`);
      connection.close();
    },
  ));

test("the first delay is spread, and delays double up to the longest", () =>
  against([status(503)], async (url) => {
    const waits = /** @type {number[]} */ ([]);
    const connection = new SSEConnection(url, { baseDelay: 10, maxDelay: 40, pollAfter: 0, random: () => 0.999, maxRetries: 5 });
    connection.addEventListener("statechange", () => connection.state === "waiting" && waits.push((connection.retryAt ?? 0) - Date.now()));
    await eventually("given up", () => connection.state === "closed");
    for (const [i, longest] of [10, 20, 40, 40, 40].entries()) {
      assert(waits[i] <= longest && waits[i] > longest / 2, `${waits}`);
    }
  }));

test("a refused token is asked for anew once, and a token that ends on the stream too", () =>
  against(
    [status(401), stream("data: a\n\n"), status(403), status(403)],
    async (url, server) => {
      const asked = /** @type {boolean[]} */ ([]);
      const token = async (/** @type {boolean} */ renew) => {
        asked.push(renew);
        return `t${asked.length}`;
      };
      const connection = new SSEConnection(url, { ...quick, token });
      await connection.connect();
      assert.deepEqual(asked, [false, true]);
      assert.equal(server.requests[1]?.headers.authorization, "Bearer t2");
      await assert.rejects(connection.reconnect(), { status: 403, isFinal: true });
      assert.deepEqual(asked, [false, true, false, true]);
    },
  ));

test("it polls where streams fail, and goes back to the stream", () =>
  against(
    [
      status(502),
      status(502),
      json({ events: [{ event: "x", data: "1", id: "e-1" }], position: "e-5", gap: true, gap_reason: "beyond_window" }),
      stream("id: e-1\nevent: x\ndata: 1\n\nid: e-6\nevent: x\ndata: 2\n\n"),
    ],
    async (url, server) => {
      const connection = new SSEConnection(`${url}?topic=t`, { ...quick, pollAfter: 2, pollFor: 0 });
      const [all, gaps, states] = [collected(connection, "x"), collected(connection, "gap"), /** @type {string[]} */ ([])];
      connection.addEventListener("statechange", () => states.push(connection.state));
      await eventually("both came", () => all.length === 2);
      assert.deepEqual([all, gaps], [[1, 2], [{ reason: "beyond_window" }]]);
      assert.equal(server.requests[2]?.url, "/events/poll?topic=t&wait=0");
      assert.deepEqual(states.filter((it) => it !== "waiting" && it !== "connecting"), ["polling", "open"]);
      connection.close();
    },
  ));

test("an id that no header can carry goes into the URL, and any text into the header", () =>
  against([stream("id: a\u0001b\ndata: 1\n\n", { ends: true }), stream("id: \u00fc\u6f22\ndata: 2\n\n", { ends: true }), stream("")], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, pollAfter: 0 });
    await eventually("three requests", () => server.requests.length === 3);
    assert.equal(server.requests[1]?.url, "/events?last_event_id=a%01b");
    const sent = Buffer.from(String(server.requests[2]?.headers["last-event-id"]), "latin1").toString("utf8");
    assert.equal(sent, "\u00fc\u6f22");
    connection.close();
  }));

test("compressed messages come decompressed, in order, and what only looks like one as it is", () => {
  const compressed = (/** @type {string} */ text) =>
    JSON.stringify({ compressed: true, encoding: "gzip", original_size: text.length, data: gzipSync(text).toString("base64") });
  const text = ["plain", compressed("large ".repeat(500)), '{"compressed": true, "encoding": "gzip", "data": "!"}', compressed("second"), "last"];
  return against([stream(text.map((data) => `data: ${data}\n\n`).join(""))], async (url) => {
    const connection = new SSEConnection(url, quick);
    /** @type {string[]} */
    const all = [];
    connection.onmessage = (event) => all.push(event.data);
    await eventually("last", () => all.includes("last"));
    assert.deepEqual(all, ["plain", "large ".repeat(500), text[2], "second", "last"]);
    connection.close();
  });
});

test("a message that was being decompressed when it was closed comes after the next connect", () => {
  const data = JSON.stringify({ compressed: true, encoding: "gzip", data: gzipSync("x".repeat(500)).toString("base64") });
  const answers = [stream(`id: 1\ndata: first\n\nid: 2\ndata: ${data}\n\n`), stream(`id: 2\ndata: ${data}\n\n`)];
  return against(answers, async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, lastEventId: "0" });
    /** @type {string[]} */
    const all = [];
    connection.onmessage = ({ data }) => {
      all.push(data);
      // In a moment the second one has begun.
      if (all.length === 1) queueMicrotask(() => connection.close());
    };
    await eventually("closed", () => connection.readyState === 2);
    await connection.connect();
    await eventually("the second", () => all.length === 2);
    assert.deepEqual(all, ["first", "x".repeat(500)]);
    assert.equal(server.requests[1]?.headers["last-event-id"], "1");
    connection.close();
  });
});

test("a job that fails is no failure of the connection", () =>
  against([stream('event: error\ndata: {"error":"disk full"}\n\n')], async (url) => {
    const connection = new SSEConnection(url, quick);
    connection.onerror = () => assert.fail("it is open");
    const failed = collected(connection, "error");
    await eventually("told", () => failed.length === 1);
    assert.deepEqual(failed, [{ error: "disk full" }]);
    assert(connection.isConnected());
    connection.close();
  }));

test("silence counts as death, and a comment as life", () => {
  let beats = 0;
  return against(
    [
      stream(""),
      (_, answer) => {
        answer.writeHead(200, { "Content-Type": "text/event-stream" });
        const beat = setInterval(() => answer.write(":\n\n") && (beats += 1), 300);
        answer.on("close", () => clearInterval(beat));
      },
    ],
    async (url, server) => {
      const connection = new SSEConnection(url, { ...quick, watchdog: 600 });
      await eventually("second attempt", () => server.requests.length === 2);
      await eventually("it lives on", () => beats > 8);
      assert.equal(server.requests.length, 2);
      connection.close();
    },
  );
});

test("a POST is not sent again once its stream had begun, unless it is allowed", async () => {
  await against([status(503), stream("data: a\n\n", { cuts: true }), stream("")], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, method: "POST", body: "question" });
    await eventually("closed", () => connection.state === "closed");
    assert.deepEqual(server.requests.map((it) => [it.method, it.body]), [["POST", "question"], ["POST", "question"]]);
  });
  await against([stream("data: a\n\n", { cuts: true }), stream("")], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, method: "POST", body: "question", repeat: true });
    await eventually("again", () => server.requests.length === 2);
    connection.close();
  });
});

test("a slow iterator stops the stream, and gets everything", () => {
  let written = 0;
  return against(
    [
      (_, answer) => {
        answer.writeHead(200, { "Content-Type": "text/event-stream" });
        const more = () => {
          while (written < 3000) {
            written += 1;
            if (!answer.write(`data: ${written} ${"x".repeat(20_000)}\n\n`)) return void answer.once("drain", more);
          }
        };
        more();
      },
    ],
    async (url) => {
      const connection = new SSEConnection(url, { ...quick, watchdog: 500 });
      let expected = 1;
      let most = 0;
      for await (const event of connection) {
        assert.equal(parseInt(event.data, 10), expected);
        if (expected === 1) await new Promise((resolve) => setTimeout(resolve, 1500));
        most = Math.max(most, written - expected);
        if (expected === 3000) break;
        expected += 1;
      }
      assert(most < 2900, `${most} were read ahead`);
      connection.close();
    },
  );
});

test("an iterator ends with the stream, and throws what it gave up with", async () => {
  await against([stream("data: a\n\n", { ends: true }), status(204)], async (url) => {
    const all = [];
    for await (const event of new SSEConnection(url, { ...quick, pollAfter: 0 })) all.push(event.data);
    assert.deepEqual(all, ["a"]);
  });
  await against([status(404)], async (url) => {
    await assert.rejects(async () => {
      for await (const event of new SSEConnection(url, quick)) assert.fail(event.data);
    }, { status: 404 });
  });
});

test("a signal closes it, and send publishes with the same token", () =>
  against([stream(""), json({ id: "i", position: "p" })], async (url, server) => {
    const abort = new AbortController();
    const connection = new SSEConnection(`${url}?topic=a`, { ...quick, token: "t", signal: abort.signal });
    await connection.connect();
    assert.deepEqual(await connection.send({ event: "x", data: 1 }), { id: "i", position: "p" });
    const sent = server.requests[1];
    assert.deepEqual([sent?.method, sent?.url, sent?.headers.authorization, sent?.body], ["POST", "/events", "Bearer t", '{"event":"x","data":1}']);
    abort.abort();
    assert.equal(connection.state, "closed");
  }));

test("an event's origin is where a redirect led", () =>
  against([stream("data: a\n\n")], (target) =>
    against([(_, answer) => answer.writeHead(307, { Location: target }).end()], async (url) => {
      const connection = new SSEConnection(url, quick);
      /** @type {string[]} */
      const origins = [];
      connection.onmessage = ({ origin }) => origins.push(origin);
      await eventually("a", () => origins.length === 1);
      assert.deepEqual(origins, [new URL(target).origin]);
      connection.close();
    }),
  ));

test("what is closed amid what came together goes on there", async () => {
  /** @type {(url: string, server: Server, options: object) => Promise<unknown>} */
  const closes = async (url, server, options) => {
    const connection = new SSEConnection(url, { ...quick, ...options });
    /** @type {string[]} */
    const all = [];
    connection.onmessage = ({ data }) => {
      all.push(data);
      if (data === "1") connection.close();
    };
    await eventually("closed", () => all.length === 1 && connection.state === "closed");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await connection.connect();
    await eventually("all", () => all.length === 3);
    assert.deepEqual(all, ["1", "2", "3"]);
    connection.close();
    return server.requests.at(-1)?.headers["last-event-id"];
  };
  const three = "id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\nid: 4\nda";
  await against([stream(three), stream("id: 2\ndata: 2\n\nid: 3\ndata: 3\n\n")], async (url, server) => {
    assert.equal(await closes(url, server, { pollAfter: 0 }), "1");
  });
  const events = [1, 2, 3].map((n) => ({ event: "message", data: `${n}`, id: `${n}` }));
  await against([status(502), json({ events, position: "3" }), stream("id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n")], async (url, server) => {
    assert.equal(await closes(url, server, { pollAfter: 1 }), undefined);
  });
});

test("handlers come and go", () =>
  against([stream("data: 1\n\n")], async (url) => {
    const connection = new SSEConnection(url, quick);
    const [first, second] = [/** @type {any[]} */ ([]), /** @type {any[]} */ ([])];
    const handler = (/** @type {any} */ data) => first.push(data);
    connection.on("message", handler);
    connection.on("message", handler);
    connection.off("message", handler);
    connection.on("message", (data) => second.push(data));
    await eventually("second", () => second.length === 1);
    assert.deepEqual([first, second], [[], [1]]);
    connection.close();
  }));

/** @param {string} name */
const asEvent = (name) => `event: ${name}\ndata: "of the stream"\n\n`;

test("events of the stream that are called as the client's own, or as what every object has, are events", () => {
  const names = ["open", "close", "statechange", "error", "abort", "__proto__", "constructor", "toString", "hasOwnProperty"];
  return against([stream(names.map(asEvent).join(""))], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, autoConnect: false });
    const opened = /** @type {Event[]} */ ([]);
    connection.onopen = (event) => opened.push(event);
    connection.onerror = () => assert.fail("it is open");
    const all = names.map((name) => collected(connection, name));
    await connection.connect();
    await eventually("the last", () => all.at(-1)?.length);
    assert.deepEqual(all, names.map(() => ["of the stream"]));
    assert.equal(opened.length, 1);
    assert.equal(connection.state, "open");
    assert.equal(server.requests.length, 1);
    assert.equal(/** @type {any} */ ({})["of the stream"], undefined);
    connection.close();
  });
});

test("a server that asks for an absurd wait is not asked without end", async () => {
  for (const step of [
    status(503, "", { "Retry-After": "9".repeat(400) }),
    status(503, "", { "Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT" }),
    stream(`retry: ${"9".repeat(40)}\nevent: unavailable\ndata: {"status":503}\n\n`, { ends: true }),
  ]) {
    await against([step], async (url, server) => {
      const connection = new SSEConnection(url, { ...quick, pollAfter: 0 });
      await eventually("waiting", () => connection.state === "waiting");
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal(server.requests.length, 1);
      assert((connection.retryAt ?? 0) <= Date.now() + 36 * 3_600_000, `${connection.retryAt}`);
      connection.close();
    });
  }
});

test("polls that do not wait are not repeated without end, and an answer without a position keeps the place", () =>
  against([stream("id: 7\ndata: a\n\n", { ends: true }), status(503), status(503), json({ events: [] })], async (url, server) => {
    const connection = new SSEConnection(url, { ...quick, pollAfter: 2 });
    await eventually("polling", () => connection.state === "polling");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert(server.requests.length < 8, `${server.requests.length}`);
    assert.equal(connection.lastEventId, "7");
    connection.close();
  }));

test("answers to polls that make no sense are failures", async () => {
  for (const answer of [null, [], 7, "x", {}, { events: 1 }, { events: [null], position: "p" }, { events: [{}], position: {} }]) {
    await against([status(503), json(answer), stream("data: a\n\n")], async (url) => {
      const connection = new SSEConnection(url, { ...quick, pollAfter: 1 });
      const all = collected(connection);
      await eventually("the stream is back", () => all.length === 1 && connection.state === "open");
      assert.equal(connection.lastEventId, "");
      connection.close();
    });
  }
});

test("a poll that is never answered counts as dead, too", () =>
  against([status(503), () => {}, stream("data: a\n\n")], async (url) => {
    const connection = new SSEConnection(url, { ...quick, pollAfter: 1, watchdog: 500 });
    const all = collected(connection);
    await eventually("the stream is back", () => all.length === 1);
    connection.close();
  }));

test("a message that is too large when it is decompressed comes as it is, and others are not read meanwhile", () => {
  const bomb = JSON.stringify({ compressed: true, encoding: "gzip", data: gzipSync(Buffer.alloc(200 << 20)).toString("base64") });
  return against([stream(`data: ${bomb}\n\ndata: after\n\n`)], async (url) => {
    const connection = new SSEConnection(url, quick);
    /** @type {string[]} */
    const all = [];
    connection.onmessage = (event) => all.push(event.data);
    await eventually("after", () => all.length === 2);
    assert.deepEqual(all, [bomb, "after"]);
    connection.close();
  });
});

test("redirects without end are a failure like others", () => {
  /** @type {import("../../testing/server.js").Step} */
  const round = (asked, answer) => answer.writeHead(307, { Location: asked.url }).end();
  return against([...Array.from({ length: 21 }, () => round), stream("data: a\n\n")], async (url) => {
    const connection = new SSEConnection(url, { ...quick, pollAfter: 0 });
    const all = collected(connection);
    await eventually("the stream", () => all.length === 1);
    connection.close();
  });
});

const { content_type: contentTypes } = JSON.parse(readFileSync(new URL("../../../conformance/content-type.json", import.meta.url), "utf8"));
for (const { name, value, event_stream: isStream } of contentTypes) {
  test(`content type: ${name}`, async () => {
    // An answer without the header would get one of its own.
    const fetch = async () => new Response(new TextEncoder().encode("data: a\n\n"), value ? { headers: { "Content-Type": value } } : {});
    const connection = new SSEConnection("http://localhost/events", { ...quick, fetch, maxRetries: 1, pollAfter: 0 });
    const seen = collected(connection);
    await connection.connect().catch(() => {});
    connection.close();
    assert.deepEqual(seen, isStream ? ["a"] : []);
  });
}
