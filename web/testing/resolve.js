// Bare names that resolve as if a folder had imported them: another React than the newest, or what an example outside `web/` needs.
import { pathToFileURL } from "node:url";

/**
 * For `node --import`, or for `import()` before the modules that need it.
 *
 * @param {string} folder Whose `node_modules` are looked through first.
 * @param {RegExp} names Which names.
 */
export function resolvingFrom(folder, names) {
  const parent = pathToFileURL(`${folder}/`).href;
  const hooks = `export const resolve = (name, context, next) =>
    next(name, ${names}.test(name) ? { ...context, parentURL: ${JSON.stringify(parent)} } : context);`;
  const url = (/** @type {string} */ code) => `data:text/javascript,${encodeURIComponent(code)}`;
  return url(`import { register } from "node:module"; register(${JSON.stringify(url(hooks))});`);
}
