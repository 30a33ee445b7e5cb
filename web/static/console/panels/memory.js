/** The accounts that `--memory` is shared out to. */

import { element, number, size } from "/static/page.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Memory by account",
  width: "half",
  mount({ body }) {
    const rows = element("tbody");
    body.append(element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("caption", { class: "sr" }, "Memory that is held, by account"), element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Account"), element("th", { scope: "col" }, "Share"), element("th", { scope: "col", class: "number" }, "Held"), element("th", { scope: "col", class: "number" }, "At most"), element("th", { scope: "col", class: "number" }, "Refused"))), rows)));
    return {
      stats({ memory }) {
        rows.replaceChildren(
          ...Object.entries(memory).map(([name, account]) => {
            const { held_bytes: held, max_bytes: max, refused } = /** @type {any} */ (account);
            const meter = element("meter", { min: 0, max: max || 1, high: max * 0.9, "aria-label": `${name}, share held` });
            meter.value = held;
            return element("tr", {}, element("td", {}, name), element("td", {}, meter), element("td", { class: "number" }, size(held)), element("td", { class: "number" }, size(max)), element("td", { class: `number${refused ? " bad" : ""}` }, number(refused)));
          }),
        );
      },
    };
  },
};
