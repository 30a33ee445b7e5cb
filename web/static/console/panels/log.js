/** The last events that the console could read, live. */

import { element, number, short, time } from "/static/page.js";

const MAX_ROWS = 100;

/** @type {import("../console.js").Panel} */
export default {
  title: "Live events",
  width: "whole",
  mount({ body, tools }) {
    const count = element("span", { class: "quiet" });
    const pause = element("button", { type: "button", "aria-pressed": "false" }, "Pause");
    tools.append(count, pause);
    const rows = element("tbody");
    const empty = element("p", { class: "empty" }, "No event has come since this page was opened.");
    const table = element("div", { class: "scroll", tabindex: "0", hidden: true }, element("table", {}, element("caption", { class: "sr" }, "Events, the newest first"), rows));
    body.append(empty, table);
    /** Of an event only what is shown is kept. @type {[number, string, HTMLElement][]} */
    let fresh = [];
    let total = 0;
    let isPaused = false;
    let isDue = false;

    function draw() {
      isDue = false;
      count.textContent = number(total);
      if (isPaused || document.hidden) return;
      const drawn = fresh.map(([at, type, data]) => element("tr", {}, element("td", {}, time(at)), element("td", {}, element("span", { class: "badge" }, type)), element("td", { class: "wide" }, data)));
      fresh = [];
      rows.prepend(...drawn.reverse());
      while (rows.childElementCount > MAX_ROWS) rows.lastElementChild?.remove();
      empty.hidden = rows.childElementCount > 0;
      table.hidden = !empty.hidden;
    }

    pause.addEventListener("click", () => {
      isPaused = !isPaused;
      pause.textContent = isPaused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", String(isPaused));
      draw();
    });
    return {
      event({ type, data, lastEventId }) {
        total += 1;
        fresh.push([Date.now(), short(type, 100), element("code", { title: lastEventId }, short(data, 300))]);
        if (fresh.length > MAX_ROWS) fresh.shift();
        if (isDue) return;
        isDue = true;
        setTimeout(draw, 250);
      },
    };
  },
};
