/** What topics there are, and what came to each: from a position, as a reader would get it. */

import { element, number, plural, short, time } from "/static/page.js";

/** As many topics are counted; and as many events of one are shown. */
const MAX_TOPICS = 500;
const MAX_EVENTS = 200;

/** @type {import("../console.js").Panel} */
export default {
  title: "Topics",
  width: "half",
  mount({ hub, body, tools }) {
    const again = element("button", { type: "button" }, "Look again");
    const counting = element("span", { class: "quiet" });
    tools.append(counting, again);
    const rows = element("tbody");
    const empty = element("div", { class: "empty" }, element("p", {}, "No event is kept. To publish one:"), element("pre", {}, `curl ${location.origin}/events -d '{"topic":"news","data":"hello"}'`));
    const table = element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, "Topics, the one with the newest event first"), element("thead", {}, element("tr", {}, ...["Topic", "Events", "Last"].map((head) => element("th", { scope: "col", class: head === "Events" ? "number" : "" }, head)))), rows));
    const form = element("form", { class: "row" }, element("label", {}, "Topic ", element("input", { name: "topic", required: true, spellcheck: "false", autocomplete: "off" })), element("label", {}, "After ", element("input", { name: "after", value: "earliest", spellcheck: "false", autocomplete: "off", title: "A position, an id, or earliest" })), element("button", {}, "Replay"));
    const note = element("p", { class: "quiet", role: "status" });
    const events = element("div", { class: "scroll", tabindex: "0", hidden: true });
    body.append(empty, table, form, note, events);

    /** @type {Map<string, {count: number, last: string}>} */
    const topics = new Map();
    let position = "earliest";
    let isBusy = false;
    let last = 0;
    let counted = 0;

    /** Counts what came since the last look; a hub with very many events is gone through in several. */
    async function look() {
      if (isBusy) return;
      isBusy = true;
      last = Date.now();
      let isDone = false;
      try {
        for (let pages = 0; pages < 20; pages += 1) {
          const page = await hub.ask(`/events/poll?after=${encodeURIComponent(position)}&limit=1000&wait=0`);
          for (const { topic, published_at: at } of page.events) {
            const known = topics.get(topic) ?? { count: 0, last: at };
            topics.delete(topic);
            topics.set(topic, { count: known.count + 1, last: at });
            const [oldest] = topics.keys();
            if (topics.size > MAX_TOPICS && oldest !== undefined) topics.delete(oldest);
          }
          counted += page.events.length;
          position = page.position;
          isDone = page.events.length === 0;
          if (isDone) break;
        }
        counting.textContent = isDone ? "" : `${plural(counted, "event")} counted so far`;
        // There is more: it goes on with the next figures.
        if (!isDone) last = 0;
        show();
      } catch (error) {
        note.textContent = `Not shown: ${/** @type {Error} */ (error).message}`;
      }
      isBusy = false;
    }

    function show() {
      empty.hidden = topics.size > 0;
      table.hidden = topics.size === 0;
      if (rows.contains(document.activeElement)) return;
      const newest = [...topics].reverse().slice(0, 100);
      rows.replaceChildren(
        ...newest.map(([topic, { count, last }]) => {
          const button = element("button", { type: "button", class: "topic" }, topic);
          button.addEventListener("click", () => {
            /** @type {any} */ (form.elements).topic.value = topic;
            form.requestSubmit();
          });
          return element("tr", {}, element("td", { class: "wide" }, button), element("td", { class: "number" }, number(count)), element("td", {}, time(last)));
        }),
      );
    }

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { topic, after } = /** @type {any} */ (form.elements);
      const query = new URLSearchParams({ topic_exact: topic.value, after: after.value || "earliest", limit: String(MAX_EVENTS), wait: "0" });
      try {
        const page = await hub.ask(`/events/poll?${query}`);
        note.textContent = page.events.length ? `${plural(page.events.length, "event")}${page.gap ? `; some before them are missing: ${page.gap_reason}` : ""}` : "No event after that is kept.";
        events.hidden = !page.events.length;
        events.replaceChildren(
          element(
            "table",
            {},
            element("caption", { class: "sr" }, `Events of ${topic.value}`),
            element("tbody", {}, ...page.events.map((/** @type {any} */ it) => element("tr", {}, element("td", {}, time(it.published_at)), element("td", {}, element("span", { class: "badge" }, it.event)), element("td", { class: "wide" }, element("code", { title: it.id }, short(it.data, 500)))))),
          ),
        );
      } catch (error) {
        note.textContent = `Not replayed: ${/** @type {Error} */ (error).message}`;
      }
    });
    again.addEventListener("click", look);
    return {
      stats: () => {
        if (Date.now() - last >= 5000) look();
      },
    };
  },
};
