// A page of the hub in a browser, and what goes wrong on it.

/**
 * Opens a page in a context of its own. `wrong` gets every error, dialog and request to somebody else.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {string} origin Such as `http://127.0.0.1:41234`.
 * @param {string} path
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function open(browser, origin, path, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  /** @type {string[]} */
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => request.url().startsWith(`${origin}/`) || request.url().startsWith("data:") || wrong.push(`foreign: ${request.url()}`));
  await page.goto(origin + path);
  return { page, wrong, context };
}

/**
 * A panel of the console.
 *
 * @param {import("playwright-core").Page} page
 * @param {string} title
 */
export function panel(page, title) {
  return page.locator("section.panel", { has: page.getByRole("heading", { name: title, exact: true }) });
}
