/** Publishes one event. */

import { element } from "/static/page.js";

/** @type {import("../console.js").Panel} */
export default {
  title: "Publish",
  width: "half",
  mount({ hub, body }) {
    const said = element("p", { role: "status" });
    const data = element("textarea", { name: "data", spellcheck: "false" }, '{"message": "hello"}');
    const form = element(
      "form",
      {},
      element("div", { class: "row" }, element("label", {}, "Topic ", element("input", { name: "topic", placeholder: "public", spellcheck: "false", autocomplete: "off" })), element("label", {}, "Type ", element("input", { name: "type", placeholder: "message", spellcheck: "false", autocomplete: "off" }))),
      element("label", {}, "Data, as JSON ", data),
      element("div", { class: "row" }, element("button", { class: "primary" }, "Publish")),
    );
    body.append(form, said);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { topic, type } = /** @type {any} */ (form.elements);
      try {
        const value = JSON.parse(data.value);
        data.removeAttribute("aria-invalid");
        const { id } = await hub.ask("/events", { method: "POST", body: { data: value, ...(topic.value && { topic: topic.value }), ...(type.value && { event_type: type.value }) } });
        said.className = "good";
        said.textContent = `Published as ${id}`;
      } catch (error) {
        if (error instanceof SyntaxError) data.setAttribute("aria-invalid", "true");
        said.className = "bad";
        said.textContent = error instanceof SyntaxError ? `This is no JSON: ${error.message}` : `Not published: ${/** @type {Error} */ (error).message}`;
      }
    });
    return {};
  },
};
