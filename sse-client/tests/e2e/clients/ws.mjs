// A WebSocket of the package `ws`: sends each line it is given, and prints each message and the end.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import WebSocket from "ws";

const [url, certificate] = process.argv.slice(2);
const socket = new WebSocket(url, certificate ? { ca: readFileSync(certificate) } : {});
const lines = createInterface({ input: process.stdin });
socket.on("open", () => lines.on("line", line => socket.send(line)));
socket.on("message", data => console.log(`message ${data}`));
socket.on("unexpected-response", async (request, answer) => {
  const body = (await answer.toArray()).join("");
  console.log(`refused ${answer.statusCode} ${answer.headers["retry-after"]} ${body}`);
  process.exit();
});
socket.on("error", error => console.log(`error ${error.message}`));
socket.on("close", (code, reason) => {
  console.log(`close ${code} ${reason}`);
  lines.close();
});
