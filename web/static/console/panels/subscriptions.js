/** Readers whose place the hub keeps, and how far behind they are. */

import { element, number, time } from "/static/page.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Named subscriptions",
  width: "half",
  mount({ hub, body }) {
    const rows = element("tbody");
    const note = element("p", { class: "quiet", role: "status" });
    const empty = element("div", { class: "empty" }, element("p", {}, "There is none. A reader that keeps nothing itself gives its place a name:"), element("pre", {}, `curl -N '${location.origin}/events?durable=mailer&topic=order/*'`));
    const table = element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, "Named subscriptions"), element("thead", {}, element("tr", {}, ...["Name", "User", "Behind", "Used", "Open"].map((head) => element("th", { scope: "col", class: head === "Behind" ? "number" : "" }, head)))), rows));
    body.append(note, table, empty);
    let last = 0;
    return {
      async stats() {
        if (Date.now() - last < 5000) return;
        last = Date.now();
        try {
          const { total, subscriptions } = await hub.ask("/events/subscriptions?limit=100");
          empty.hidden = total > 0;
          table.hidden = total === 0;
          note.textContent = total > subscriptions.length ? `${number(subscriptions.length)} of ${number(total)} shown` : "";
          rows.replaceChildren(...subscriptions.map((/** @type {any} */ it) => element("tr", {}, element("td", { class: "wide" }, it.name), element("td", {}, it.user_id ?? "–"), element("td", { class: `number${it.behind > 1000 ? " warn" : ""}` }, it.behind === null ? "another log" : number(it.behind)), element("td", {}, time(it.last_used)), element("td", {}, it.connection_id ? "yes" : "no"))));
        } catch (error) {
          note.textContent = `Not shown: ${/** @type {Error} */ (error).message}`;
        }
      },
    };
  },
};
