// The examples of a document, as they stand there.
import { readFileSync } from "node:fs";

/**
 * @param {URL} document
 * @param {string} language As behind the fence, such as `js`.
 * @returns {{heading: string, code: string}[]} Each with the heading that it stands under.
 */
export function examples(document, language) {
  let heading = "";
  const all = [];
  for (const [, named, fenced, code] of readFileSync(document, "utf8").matchAll(/^#+ (.+)$|^```(\w*)\n([\s\S]*?)^```$/gm)) {
    heading = named ?? heading;
    if (fenced === language) all.push({ heading, code });
  }
  return all;
}
