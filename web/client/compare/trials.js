// What each client is tried with: a server that does as told, and what was seen.
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";

import { Server, json, status, stream } from "../../testing/server.js";

/** @param {() => unknown} condition @param {number} [most] Milliseconds. */
async function until(condition, most = 6000) {
  const end = Date.now() + most;
  while (Date.now() < end) {
    if (condition()) return true;
    await sleep(10);
  }
  return Boolean(condition());
}

const asStream = { "Content-Type": "text/event-stream" };

/** A stream whose pieces come one by one. */
function pieces(...all) {
  return async (_, answer) => {
    answer.writeHead(200, asStream);
    answer.socket.setNoDelay(true);
    for (const piece of all) {
      await sleep(15);
      if (!answer.writable) return;
      answer.write(piece);
    }
  };
}

/** Steps, and what is asked; gives the reader, the requests with their times, and ends all. */
async function against(open, steps, asked, look) {
  const at = [];
  const timed = steps.map((step) => (request, answer) => {
    at.push(Date.now());
    return step(request, answer);
  });
  const server = new Server(...timed);
  const url = await server.start();
  try {
    const it = await open(url, asked);
    if (it.lacks.length) {
      await it.close();
      return "no option";
    }
    return await look({ it, server, at, url, data: () => it.events.map((event) => event.data) });
  } finally {
    server.stop();
  }
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(1)} s`;
const yes = (value, otherwise = "no") => (value ? "yes" : otherwise);
const lastIds = (server) => server.requests.map((request) => request.headers["last-event-id"]);
const header = (server, n, name) => server.requests[n]?.headers[name];
const held = (_, answer) => {
  answer.writeHead(200, asStream);
  answer.write(":\n\n");
};
const html = { "Content-Type": "text/html" };
const cut = (text) => stream(text, { cuts: true });
const end = (text) => stream(text, { ends: true });

/** What came of a stream whose text is given; the trial waits for `last`. */
const parsing = (text, expected, last) => (open) =>
  against(open, [pieces(...(Array.isArray(text) ? text : [text]))], {}, async ({ data }) => {
    await until(() => data().includes(last), 3000);
    return JSON.stringify(data()) === JSON.stringify(expected) ? "yes" : JSON.stringify(data());
  });

/** How often it asks within a time. */
const asks = (step, milliseconds = 5000) => (open) =>
  against(open, [step], {}, async ({ it, server }) => {
    await sleep(milliseconds);
    return `${server.requests.length} in ${seconds(milliseconds)}${it.isEnded() ? ", ended" : ""}`;
  });

const comesBack = (step) => (open) =>
  against(open, [step, stream("data: b\n\n")], {}, async ({ at, data, it }) => {
    await until(() => data().includes("b"), 8000);
    return data().includes("b") ? `after ${seconds(at[1] - at[0])}` : it.isEnded() ? "ends" : "no";
  });

export const trials = {
  "headers of one's own": (open) =>
    against(open, [held], { headers: { "X-Test": "1" } }, async ({ server }) => {
      await until(() => server.requests.length);
      return yes(header(server, 0, "x-test") === "1");
    }),
  "POST with a body": (open) =>
    against(open, [held], { method: "POST", body: "question" }, async ({ server }) => {
      await until(() => server.requests.length);
      const [{ method, body }] = server.requests;
      return yes(method === "POST" && body === "question");
    }),
  "POST, cut after its answer began: sent again": (open) =>
    against(open, [cut("data: a\n\n"), held], { method: "POST", body: "question" }, async ({ server }) => {
      await sleep(5000);
      return yes(server.requests.length > 1);
    }),
  "a new token for each attempt": (open) => {
    let n = 0;
    return against(open, [cut("data: a\n\n"), held], { token: () => `t${(n += 1)}` }, async ({ server }) => {
      await until(() => server.requests.length > 1, 8000);
      return yes(header(server, 1, "authorization") === "Bearer t2", String(header(server, 1, "authorization")));
    });
  },
  "401: asks for another token and tries at once": (open) => {
    let n = 0;
    return against(open, [status(401), held], { token: () => `t${(n += 1)}` }, async ({ server, at, it }) => {
      await until(() => server.requests.length > 1, 5000);
      return at.length < 2 ? (it.isEnded() ? "ends" : "no") : `after ${seconds(at[1] - at[0])}`;
    });
  },
  "goes on after a cut, with the id": (open) =>
    against(open, [cut("id: 1\ndata: a\n\n"), held], {}, async ({ server, at }) => {
      await until(() => at.length > 1, 8000);
      return at.length < 2 ? "no" : yes(lastIds(server)[1] === "1", `without the id`);
    }),
  "goes on after the server's end": (open) =>
    against(open, [end("id: 1\ndata: a\n\n"), held], {}, async ({ server, at, it }) => {
      await until(() => at.length > 1, 8000);
      return at.length < 2 ? (it.isEnded() ? "ends" : "no") : yes(lastIds(server)[1] === "1", "without the id");
    }),
  "manual reconnect keeps the id": (open) =>
    against(open, [stream("id: 7\ndata: a\n\n"), held], {}, async ({ it, server }) => {
      await until(() => it.events.length);
      if (!it.reconnect) return "no such call";
      it.reconnect();
      await until(() => server.requests.length > 1);
      return yes(lastIds(server)[1] === "7");
    }),
  "begins after an id": (open) =>
    against(open, [held], { lastEventId: "5" }, async ({ server }) => {
      await until(() => server.requests.length);
      return yes(lastIds(server)[0] === "5");
    }),
  "id of UTF-8": (open) =>
    against(open, [cut("id: \u00fc\u6f22\ndata: a\n\n"), held], {}, async ({ server }) => {
      await until(() => server.requests.length > 1, 8000);
      const sent = lastIds(server)[1];
      if (sent === undefined) return server.requests.length > 1 ? "without the id" : "never again";
      return yes(Buffer.from(sent, "latin1").toString() === "\u00fc\u6f22", sent);
    }),
  "an empty id takes it back": (open) =>
    against(open, [cut("id: 7\ndata: a\n\nid\ndata: b\n\n"), held], {}, async ({ server, it }) => {
      await until(() => server.requests.length > 1, 8000);
      return server.requests.length < 2 ? "never again" : yes(lastIds(server)[1] === undefined, `sends ${lastIds(server)[1]}`);
    }),
  "first retry of 12 readers": async (open) => {
    const waits = await Promise.all(
      Array.from({ length: 12 }, () =>
        against(open, [cut("data: a\n\n"), held], {}, async ({ at }) => {
          await until(() => at.length > 1, 9000);
          return at[1] - at[0];
        }),
      ),
    );
    return `${seconds(Math.min(...waits))} to ${seconds(Math.max(...waits))}`;
  },
  "nothing answers: delays of 20 s": (open) =>
    against(open, [(_, answer) => answer.destroy()], {}, async ({ at }) => {
      await sleep(20_000);
      const waits = at.slice(1).map((time, n) => (time - at[n]) / 1000);
      const shown = waits.slice(0, 8).map((it) => it.toFixed(it < 0.1 ? 3 : 1));
      return `${shown.join(", ")}${waits.length > 8 ? `, … (${waits.length})` : ""}`;
    }),
  "longest delay may be set: 200 ms, longest seen": (open) =>
    against(open, [(_, answer) => answer.destroy()], { maxDelay: 200 }, async ({ at }) => {
      await sleep(4000);
      const waits = at.slice(1).map((time, n) => time - at[n]);
      return waits.length ? `${Math.max(...waits)} ms of ${waits.length}` : "none";
    }),
  "503 with `Retry-After: 2`": comesBack(status(503, "", { "Retry-After": "2" })),
  "502 with HTML": comesBack(status(502, "<html>Bad Gateway</html>", html)),
  "200 with HTML": comesBack(status(200, "<html>soon</html>", html)),
  "`retry: 100`, then a cut": comesBack(cut("retry: 100\ndata: a\n\n")),
  "`retry: 0`, then the end, 5 s": asks(end("retry: 0\ndata: a\n\n")),
  "accept, one event, end, for 10 s": asks(end("data: a\n\n"), 10_000),
  "at most 3 retries": (open) =>
    against(open, [(_, answer) => answer.destroy()], { maxRetries: 3 }, async ({ it, server }) => {
      await until(() => it.isEnded(), 16_000);
      return it.isEnded() ? `ends after ${server.requests.length} requests` : `${server.requests.length} requests, goes on`;
    }),
  "silence of 2 s noticed": (open) =>
    against(open, [stream("data: a\n\n"), held], { watchdog: 2000 }, async ({ at }) => {
      await until(() => at.length > 1, 9000);
      return at.length > 1 ? `after ${seconds(at[1] - at[0])}` : "no";
    }),
  "204, 5 s": asks(status(204)),
  "404, 5 s": asks(status(404)),
  "401, 5 s": asks(status(401)),
  "the error tells the status": (open) =>
    against(open, [status(404, '{"detail":"x"}')], {}, async ({ it }) => {
      await until(() => it.troubles.length, 3000);
      return yes(it.troubles[0]?.status === 404);
    }),
  "`text/plain` taken as a stream": (open) =>
    against(open, [(_, answer) => answer.writeHead(200, { "Content-Type": "text/plain" }).write("data: a\n\n")], {}, async ({ data }) => {
      await until(() => data().length, 2000);
      return yes(data().length);
    }),
  "`text/event-streamX` taken as a stream": (open) =>
    against(open, [(_, answer) => answer.writeHead(200, { "Content-Type": "text/event-streamX" }).write("data: a\n\n")], {}, async ({ data }) => {
      await until(() => data().length, 2000);
      return yes(data().length);
    }),
  "`Text/Event-Stream; charset=UTF-8` taken": (open) =>
    against(open, [(_, answer) => answer.writeHead(200, { "Content-Type": "Text/Event-Stream; charset=UTF-8" }).write("data: a\n\n")], {}, async ({ data }) => {
      await until(() => data().length, 2000);
      return yes(data().length);
    }),
  "characters cut at each byte": parsing([...Buffer.from("data: a\u00e9\u6f22\ud83d\ude00\n\n")].map((byte) => Buffer.of(byte)), ["a\u00e9\u6f22\ud83d\ude00"], "a\u00e9\u6f22\ud83d\ude00"),
  "BOM at the beginning": parsing("\ufeffdata: a\n\ndata: b\n\n", ["a", "b"], "b"),
  "CR, LF and CRLF": parsing("data: a\r\rdata: b\r\n\r\ndata: c\n\n", ["a", "b", "c"], "c"),
  "CRLF cut between its two": parsing(["data: a\r", "\n\r", "\ndata: b\r", "\r"], ["a", "b"], "b"),
  "several data lines": parsing("data: a\ndata\ndata:  b\n\n", ["a\n\n b"], "a\n\n b"),
  "spaces of the data kept": parsing("data:  a \n\n", [" a "], " a "),
  "comments give no event": parsing(": a\n\nfoo: bar\n\nevent: x\n\ndata: a\n\n", ["a"], "a"),
  "id with NUL ignored": (open) =>
    against(open, [cut("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"), held], {}, async ({ server }) => {
      await until(() => server.requests.length > 1, 5000);
      return server.requests.length < 2 ? "never again" : yes(lastIds(server)[1] === "1", `sends ${JSON.stringify(lastIds(server)[1])}`);
    }),
  "half an event at the end is no event": (open) =>
    against(open, [end("data: a\n\ndata: half\n"), held], {}, async ({ data }) => {
      await sleep(2000);
      return yes(JSON.stringify(data()) === '["a"]', JSON.stringify(data()));
    }),
  "event of 40 MiB": (open) => {
    const chunk = "x".repeat(1 << 16);
    const send = async (_, answer) => {
      answer.writeHead(200, asStream);
      answer.write("data: ");
      for (let n = 0; n < 640 && answer.writable; n += 1) {
        if (!answer.write(chunk)) await new Promise((resolve) => answer.once("drain", resolve).once("close", resolve));
      }
      answer.write("\n\ndata: after\n\n");
    };
    return against(open, [send], {}, async ({ it, data }) => {
      const begun = Date.now();
      await until(() => data().includes("after"), 30_000);
      const huge = it.events.some((event) => (event.length ?? event.data.length) > 1e6);
      const took = seconds(Date.now() - begun);
      return data().includes("after") ? `${huge ? "delivered" : "left out, goes on"}; ${took}` : `not done in ${took}`;
    });
  },
  "an id that comes twice": (open) =>
    against(open, [cut("id: 1\ndata: a\n\nid: 2\ndata: b\n\n"), stream("id: 2\ndata: b\n\nid: 3\ndata: c\n\n")], {}, async ({ data }) => {
      await until(() => data().includes("c"), 8000);
      return data().includes("c") ? (data().filter((it) => it === "b").length === 1 ? "dropped" : "comes twice") : "never again";
    }),
  "the hub's `gap` reaches the page": (open) =>
    against(open, [stream("event: gap\ndata: {}\n\n")], { types: ["gap"] }, async ({ it }) => {
      await until(() => it.events.length, 2000);
      return yes(it.events[0]?.type === "gap");
    }),
  "an event `error` of the stream is told from trouble": (open) =>
    against(open, [stream('event: error\ndata: {"error":"disk full"}\n\n')], { types: ["error"] }, async ({ it }) => {
      await until(() => it.events.length, 2000);
      return it.events[0]?.type !== "error" ? "not heard" : it.troubles.length ? "both: look for `data`" : "yes";
    }),
  "polls where streams fail": (open) => {
    const step = (request, answer) => (request.url.startsWith("/events/poll") ? json({ events: [{ event: "x", data: "1", id: "1" }], position: "1" }) : status(502))(request, answer);
    return against(open, [step], { types: ["x"], pollAfter: 3 }, async ({ it }) => yes(await until(() => it.events.length, 15_000)));
  },
  "read by `for await`": (open) => against(open, [stream("data: a\n\n")], {}, async ({ it }) => yes(it.raw?.[Symbol.asyncIterator])),
  "a slow reader: read ahead in 8 s": (open) => {
    let written = 0;
    const send = async (_, answer) => {
      answer.writeHead(200, asStream);
      const block = `data: ${"x".repeat(20_000)}\n\n`;
      for (let n = 0; n < 3000 && answer.writable; n += 1) {
        if (!answer.write(block)) await new Promise((resolve) => answer.once("drain", resolve).once("close", resolve));
        written += block.length;
      }
    };
    return against(open, [send], { onEvent: () => sleep(60_000, null, { ref: false }) }, async ({ it }) => {
      const iterator = it.raw?.[Symbol.asyncIterator]?.();
      await iterator?.next();
      await sleep(8000);
      return `${Math.round(written / 1e6)} MB of 60`;
    });
  },
  "hears a type that it has not named": (open) =>
    against(open, [stream("event: zzz\ndata: a\n\n")], {}, async ({ it }) => {
      await until(() => it.events.length, 2000);
      return yes(it.events.length);
    }),
  "sees the answer's headers": (open) => {
    let seen = {};
    const step = (request, answer) => {
      answer.setHeader("X-Seen", "1");
      stream("data: a\n\n")(request, answer);
    };
    return against(open, [step], { onHeaders: (headers) => (seen = headers) }, async () => yes(await until(() => seen["x-seen"] === "1", 2000)));
  },
  "compressed message of the hub": (open) => {
    const text = "large ".repeat(500);
    const data = JSON.stringify({ compressed: true, encoding: "gzip", original_size: text.length, data: gzipSync(text).toString("base64") });
    return against(open, [stream(`data: ${data}\n\n`)], {}, async ({ data }) => {
      await until(() => data().length, 2000);
      return data()[0] === text ? "decompressed" : "as it stands";
    });
  },
  "AbortSignal ends it": (open) => {
    const abort = new AbortController();
    let isGone = false;
    const step = (request, answer) => {
      answer.on("close", () => (isGone = true));
      held(request, answer);
    };
    return against(open, [step], { signal: abort.signal }, async ({ server }) => {
      await until(() => server.requests.length);
      await sleep(300);
      abort.abort();
      await sleep(3000);
      return yes(isGone && server.requests.length === 1, isGone ? "comes back" : "no");
    });
  },
  "`close` while open: connection gone, timers left": (open) => {
    let isGone = false;
    const step = (request, answer) => {
      answer.on("close", () => (isGone = true));
      stream("data: a\n\n")(request, answer);
    };
    return against(open, [step], {}, async ({ it, data }) => {
      await until(() => data().length);
      await it.close();
      await until(() => isGone, 1000);
      await sleep(50);
      const timers = process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
      return `${yes(isGone)}, ${timers}`;
    });
  },
  "`close` while it waits: asks again, timers left": (open) =>
    against(open, [(_, answer) => answer.destroy()], {}, async ({ it, server }) => {
      await sleep(1500);
      await it.close();
      const asked = server.requests.length;
      await sleep(50);
      const timers = process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
      await sleep(5000);
      return `${yes(server.requests.length > asked)}, ${timers}`;
    }),
  "`origin` after a redirect is where it led": async (open) => {
    const other = new Server((request, answer) => {
      answer.setHeader("Access-Control-Allow-Origin", "*");
      stream("data: a\n\n")(request, answer);
    });
    const target = await other.start();
    const away = (_, answer) => answer.writeHead(307, { Location: target }).end();
    return against(open, [away], {}, async ({ it }) => {
      await until(() => it.events.length, 3000);
      other.stop();
      if (!it.events.length) return "not followed";
      return it.events[0].origin === undefined ? "not told" : yes(it.events[0].origin === new URL(target).origin);
    });
  },
  "gives its connection back while the page is hidden": async (open) => {
    if (open.name === "native") return "not tried";
    globalThis.window = Object.assign(new EventTarget(), { document: Object.assign(new EventTarget(), { hidden: false, visibilityState: "visible" }) });
    Object.assign(globalThis.window, { fetch, setTimeout: setTimeout.bind(globalThis), clearTimeout: clearTimeout.bind(globalThis) });
    const { document } = globalThis.window;
    globalThis.document = document;
    let isGone = false;
    const step = (request, answer) => {
      answer.on("close", () => (isGone = true));
      stream("data: a\n\n")(request, answer);
    };
    return against(open, [step], {}, async ({ data }) => {
      await until(() => data().length);
      Object.assign(document, { hidden: true, visibilityState: "hidden" });
      document.dispatchEvent(new Event("visibilitychange"));
      return yes(await until(() => isGone, 2000));
    });
  },
};
