/** Who reads. A page of connections is shown at a time; the search goes through all of them, page by page. */

import { element, number, short, time } from "/static/page.js";

/** Rows that are shown at once; what is searched is not kept. */
const SHOWN = 100;
const PAGE = 1000;
/** Every so often what is shown is asked for anew. */
const PERIOD = 5000;
/** A search goes through so many pages; there are no more connections than that. */
const MAX_PAGES = 1000;

/** @type {import("../console.js").Panel} */
export default {
  title: "Connections",
  width: "whole",
  mount({ hub, body, tools }) {
    const search = element("input", { type: "search", "aria-label": "Search connections", placeholder: "id, user, address, topic, agent", spellcheck: "false" });
    tools.append(search);
    const note = element("p", { class: "quiet", role: "status" });
    const rows = element("tbody");
    const heads = ["Connection", "User, session", "Address", "Topics and types", "Open", "Behind", "Delivered", ""];
    const table = element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, "Open connections"), element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col", class: head === "Behind" || head === "Delivered" ? "number" : "" }, head || element("span", { class: "sr" }, "Close"))))), rows));
    const empty = element("div", { class: "empty" }, element("p", {}, "Nobody reads now. To see one here, run:"), element("pre", {}, `curl -N ${location.origin}/events`));
    body.append(note, table, empty);
    let isBusy = false;
    let isAgain = false;
    let last = 0;

    async function load() {
      if (isBusy) {
        isAgain = true;
        return;
      }
      isBusy = true;
      last = Date.now();
      try {
        const text = search.value.trim().toLowerCase();
        /** @type {any[]} */
        const found = [];
        let matches = 0;
        let total = 0;
        let next = "";
        let pages = 0;
        do {
          const page = await hub.ask(`/events/connections?limit=${text ? PAGE : SHOWN}${next && `&after=${encodeURIComponent(next)}`}`);
          total = page.total_connections;
          for (const connection of page.connections) {
            if (text && !JSON.stringify(connection).toLowerCase().includes(text)) continue;
            matches += 1;
            if (found.length < SHOWN) found.push(connection);
          }
          next = page.next ?? "";
          pages += 1;
        } while (next && pages < MAX_PAGES && text && search.value.trim().toLowerCase() === text);
        show(found, text ? matches : total, total);
      } catch (error) {
        note.textContent = `Not shown: ${/** @type {Error} */ (error).message}`;
      }
      isBusy = false;
      if (isAgain) {
        isAgain = false;
        load();
      }
    }

    /**
     * @param {any[]} found
     * @param {number} matches
     * @param {number} total
     */
    function show(found, matches, total) {
      // What has the focus stays.
      if (rows.contains(document.activeElement)) return;
      empty.hidden = total > 0;
      table.hidden = total === 0;
      note.textContent = matches > found.length ? `${number(found.length)} of ${number(matches)} shown` : matches < total ? `${number(matches)} of ${number(total)} found` : "";
      rows.replaceChildren(...found.map(row));
    }

    /** @param {any} it */
    function row(it) {
      const close = element("button", { type: "button", class: "danger", "aria-label": `Close ${it.connection_id}` }, "Close");
      close.addEventListener("click", async () => {
        // The second press means it.
        if (close.textContent === "Close") {
          close.textContent = "Sure?";
          setTimeout(() => (close.textContent = "Close"), 3000);
          return;
        }
        close.blur();
        await hub.ask(`/events/connections/${encodeURIComponent(it.connection_id)}`, { method: "DELETE" }).catch((error) => (note.textContent = error.message));
        load();
      });
      const wants = [...it.topics, ...it.subscriptions.map((/** @type {string} */ type) => `type ${type}`)].join(", ") || "everything public";
      return element(
        "tr",
        {},
        element("td", {}, element("code", {}, String(it.connection_id).slice(0, 8)), element("div", { class: "quiet cut", title: it.user_agent ?? "" }, short(String(it.user_agent ?? ""), 200))),
        element("td", {}, [it.user_id, it.session_id].filter(Boolean).join(", ") || "–"),
        element("td", {}, it.user_ip),
        element("td", { class: "wide" }, short(wants, 300)),
        element("td", {}, time(it.created_at)),
        element("td", { class: `number${it.queue_size > 100 ? " warn" : ""}` }, number(it.queue_size)),
        element("td", { class: "number" }, number(it.delivered_events ?? 0)),
        element("td", {}, close),
      );
    }

    let typed = 0;
    search.addEventListener("input", () => {
      clearTimeout(typed);
      typed = +setTimeout(load, 250);
    });
    return {
      stats: () => {
        if (Date.now() - last >= PERIOD) load();
      },
    };
  },
};
