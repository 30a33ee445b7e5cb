/**
 * Patterns of topics, as the hub reads them: `*`, `:name`, `{…}`, the modifiers `?`, `+` and `*`, and `\`.
 *
 * ```text
 * pattern  = { literal | "\" char | wildcard [ modifier ] | group [ modifier ] }
 * wildcard = "*" | ":" name
 * group    = "{" { literal | "\" char } [ wildcard ] { literal | "\" char } "}"
 * ```
 *
 * No regular expression decides: topics are what others publish, and one with many wildcards could take it years. Here each part of the
 * pattern is one pass over the topic, with the set of places that can have been reached.
 */

/**
 * A text by its characters, a wildcard, or what may be missing.
 *
 * @typedef {string[] | "any" | "segment" | "segments" | {optional: Part[]}} Part
 */

/** A pattern that is longer, or has more wildcards and groups, the hub refuses. */
const MAX_BYTES = 1024;
const MAX_WILDCARDS = 32;

const BEGINS = String.raw`[\p{Alphabetic}_$]`;
const NAME = String.raw`:${BEGINS}[\p{Alphabetic}\p{N}_$\u200c\u200d]*`;
/** Outside of groups a `:` behind a word is itself. */
const WILDCARD = String.raw`\*|(?<![\p{Alphabetic}\p{N}_:])${NAME}`;
const TEXT = String.raw`((?:\\.|[^\\{}*(:]|:(?!${BEGINS}))*)`;
const IS_PATTERN = new RegExp(String.raw`[*{(]|${WILDCARD}`, "u");
const TOKEN = new RegExp(String.raw`(?:(${WILDCARD})|\{${TEXT}(\*|${NAME})?${TEXT}\})([?+*]?)|\\(.)|[^\\{}(]`, "suy");

/**
 * Whether a topic that is asked for is meant as a pattern.
 *
 * @param {string} topic
 */
export function isPattern(topic) {
  return IS_PATTERN.test(topic);
}

/**
 * What says whether a pattern means a topic.
 *
 * @param {string} pattern
 * @returns {((topic: string) => boolean) | null} Null where the hub refuses it, too.
 */
export function matcher(pattern) {
  const parts = parsed(pattern);
  if (!parts) return null;
  const [first] = parts;
  const prefix = Array.isArray(first) ? first.join("") : "";
  return (topic) => {
    if (!topic.startsWith(prefix)) return false;
    const characters = Array.from(topic);
    const places = new Uint8Array(characters.length + 1);
    places[0] = 1;
    return walk(parts, places, characters).at(-1) === 1;
  };
}

/** @param {string} pattern */
function parsed(pattern) {
  if (new TextEncoder().encode(pattern).length > MAX_BYTES) return null;
  /** @type {Part[]} */
  const parts = [];
  /** @type {string[]} */
  let text = [];
  const endText = () => {
    if (text.length) parts.push(text);
    text = [];
  };
  let endsInSlash = false;
  let wildcards = 0;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < pattern.length) {
    const token = TOKEN.exec(pattern);
    if (!token) return null;
    const [all, alone, before, inGroup, behind = "", modifier, escaped] = token;
    const wildcard = alone ?? inGroup;
    if (wildcard === undefined && before === undefined) {
      text.push(escaped ?? all);
      endsInSlash = all === "/";
      continue;
    }
    wildcards += Number(before !== undefined) + Number(wildcard !== undefined);
    if (wildcards > MAX_WILDCARDS) return null;
    // Only where there is a modifier it matters whose the `/` is.
    const hasSlash = alone !== undefined && modifier !== "" && endsInSlash;
    if (hasSlash) text.pop();
    endText();
    const group = grouped(hasSlash ? "/" : unescaped(before ?? ""), wildcard, unescaped(behind), modifier);
    if (!group) return null;
    parts.push(...group);
    endsInSlash = false;
  }
  endText();
  return merged(parts);
}

/**
 * @param {string} before
 * @param {string | undefined} wildcard
 * @param {string} behind
 * @param {string} modifier
 * @returns {Part[] | null}
 */
function grouped(before, wildcard, behind, modifier) {
  const isRepeated = modifier === "+" || modifier === "*";
  const isBare = behind === "" && wildcard?.startsWith(":");
  const isSegments = isRepeated && isBare && before === "/";
  // What holds `*` means nothing more when it is repeated, and neither does a name alone.
  const isLoopless = isSegments || wildcard === "*" || before + behind === "";
  if (isRepeated && !isLoopless) return null;
  /** @type {Part[]} */
  const parts = [];
  if (isSegments) {
    parts.push("segments");
  } else {
    if (before) parts.push(Array.from(before));
    if (wildcard) parts.push(wildcard === "*" ? "any" : "segment");
    if (behind) parts.push(Array.from(behind));
  }
  return modifier === "?" || modifier === "*" ? [{ optional: parts }] : parts;
}

/** @param {string} text */
function unescaped(text) {
  return text.replace(/\\(.)/gsu, "$1");
}

/**
 * Texts in a row as one.
 *
 * @param {Part[]} parts
 */
function merged(parts) {
  /** @type {Part[]} */
  const all = [];
  for (const part of parts) {
    const last = all.at(-1);
    if (Array.isArray(part) && Array.isArray(last)) last.push(...part);
    else all.push(part);
  }
  return all;
}

/**
 * The places behind the parts, of those before them: each is the number of characters before it.
 *
 * @param {Part[]} parts
 * @param {Uint8Array} places
 * @param {string[]} topic
 * @returns {Uint8Array}
 */
function walk(parts, places, topic) {
  for (const part of parts) {
    const first = places.indexOf(1);
    if (first < 0) break;
    const next = new Uint8Array(places.length);
    if (Array.isArray(part)) {
      for (let at = first; at + part.length < places.length; at += 1) {
        if (places[at] && part.every((character, i) => topic[at + i] === character)) next[at + part.length] = 1;
      }
    } else if (part === "any") {
      next.fill(1, first);
    } else if (part === "segment") {
      // Whether one of the places lies before this one in its segment.
      let isOpen = false;
      for (let at = first; at < places.length; at += 1) {
        if (isOpen) next[at] = 1;
        isOpen = (isOpen || places[at] === 1) && topic[at] !== "/";
      }
    } else if (part === "segments") {
      // Whether a segment that was begun has nothing yet, or something.
      let [isBegun, isOpen] = [false, false];
      for (let at = first; at < places.length; at += 1) {
        if (isOpen) next[at] = 1;
        [isBegun, isOpen] = topic[at] === "/" ? [isOpen || places[at] === 1, false] : [false, isBegun || isOpen];
      }
    } else {
      walk(part.optional, places, topic).forEach((isPlace, at) => (next[at] = isPlace | places[at]));
    }
    places = next;
  }
  return places;
}
