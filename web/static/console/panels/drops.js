/** What was refused, ended or missed, by reason. */

import { element, number } from "/static/page.js";

/** @type {[string, (stats: any) => number][]} */
const REASONS = [
  ["Streams refused: the hub is full", (it) => it.places.connections.refused],
  ["Streams refused: too many of one address", (it) => it.places.connections.refused_per_ip],
  ["Streams refused: too many of one user", (it) => it.places.connections.refused_per_user],
  ["Requests refused: no place", (it) => it.places.requests.refused + it.places.requests.refused_per_ip],
  ["Sockets refused: no place", (it) => it.places.sockets.refused + it.places.sockets.refused_per_ip],
  ["Refused: connecting too often", (it) => it.rates.connect.refused],
  ["Refused: publishing too fast", (it) => it.rates.publish.refused + it.rates.publish_bytes.refused],
  ["Refused: too many invalid credentials", (it) => it.rates.failed_credentials.refused],
  ["Refused: no memory", (it) => Object.values(it.memory).reduce((/** @type {number} */ sum, /** @type {any} */ account) => sum + account.refused, 0)],
  ["Ended: too slow", (it) => it.evicted_connections],
  ["Gaps told to readers", (it) => it.gaps],
  ["Events left out for late readers", (it) => it.events_left_out.superseded + it.events_left_out.sampled + it.events_left_out.low_priority],
  ["Events that had expired", (it) => it.events_left_out.expired],
  ["Requests that failed inside the hub", (it) => it.panics],
];

/** @type {import("../console.js").Panel} */
export default {
  title: "Refused and dropped",
  width: "half",
  mount({ body }) {
    const rows = element("tbody");
    const empty = element("p", { class: "empty" }, "Nothing was refused, ended or missed since the hub started.");
    const table = element("table", {}, element("caption", { class: "sr" }, "What was refused, ended or missed, by reason"), element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "What"), element("th", { scope: "col", class: "number" }, "Since start"), element("th", { scope: "col", class: "number" }, "Lately"))), rows);
    body.append(empty, table);
    /** The counts of about a minute ago, oldest first. @type {number[][]} */
    const earlier = [];
    return {
      stats(stats) {
        const counts = REASONS.map(([, count]) => count(stats) ?? 0);
        const [before = counts] = earlier;
        earlier.push(counts);
        if (earlier.length > 30) earlier.shift();
        const seen = REASONS.flatMap(([name], n) => ((counts[n] ?? 0) > 0 ? [{ name, count: counts[n] ?? 0, lately: (counts[n] ?? 0) - (before[n] ?? 0) }] : []));
        empty.hidden = seen.length > 0;
        table.hidden = seen.length === 0;
        rows.replaceChildren(...seen.map(({ name, count, lately }) => element("tr", {}, element("td", {}, name), element("td", { class: "number" }, number(count)), element("td", { class: `number${lately > 0 ? " warn" : ""}` }, lately > 0 ? `+${number(lately)}` : "–"))));
      },
    };
  },
};
