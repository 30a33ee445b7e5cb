// The cases of the hub's own tests, and a naive matcher, written straight from the grammar.
import assert from "node:assert/strict";
import { test } from "node:test";

import { isPattern, matcher } from "../src/patterns.js";

/** Patterns with topics that are meant and topics that are not. @type {[string, string[], string[]][]} */
const MEANT = [
  ["*", ["anything", "a/b"], []],
  ["job/*", ["job/42", "job/42/log", "job/"], ["jobs/42", "job"]],
  ["job/**", ["job", "job/42/log"], ["jobs"]],
  ["*/log", ["job/log", "/log", "a/b/log"], ["log", "a/logs"]],
  ["room/:id/chat", ["room/7/chat"], ["room/7/8/chat", "room//chat", "room/7"]],
  ["books/:id?", ["books", "books/1"], ["books/", "books/1/2"]],
  ["books/{:id}?", ["books/", "books/1"], ["books", "books/1/2"]],
  ["files/:path+", ["files/a", "files/a/b"], ["files", "files/", "files/a//b"]],
  ["files/:path*", ["files", "files/a/b"], ["files/", "filesa"]],
  ["a{b}?c", ["ac", "abc"], ["abbc", "a"]],
  ["log{-:day}?.txt", ["log.txt", "log-1.txt"], ["log1.txt"]],
  [":major.:minor", ["1.2", "1.2.3"], ["1", "1.", "1/.2"]],
  ["v{:major}", ["v1"], ["v", "v1/"]],
  ["user-:id", ["user-7"], ["user-", "user-7/"]],
  ["urn:uuid:*", ["urn:uuid:1"], ["urn:oid:1"]],
  ["Foo::bar*", ["Foo::bar"], ["Foo:x"]],
  ["a\\*\\{b\\}\\:c\\(", ["a*{b}:c("], ["aa{b}:c("]],
  ["phone/+49*", ["phone/+491"], ["phone/49"]],
  ["grüße/:ü/x", ["grüße/é/x"], ["grüße//x"]],
  [":a{:b}", ["xy", "éé"], ["x", "é", "😀"]],
  ["https://example.com/books/*", ["https://example.com/books/1?x=1"], ["https://evil.example/books/1", "https://example.com/books"]],
  ["http://localhost:8080/:id", ["http://localhost:8080/1"], ["http://localhost:80/1"]],
  ["http://]*", ["http://]x"], ["http://x"]],
  ["{/}?:n*", ["", "/", "/a", "a"], ["a/b"]],
  ["a\nb*", ["a\nb\nc"], ["a b"]],
];

test("patterns mean topics", () => {
  for (const [pattern, meant, others] of MEANT) {
    assert(isPattern(pattern), pattern);
    const matches = matcher(pattern);
    assert(matches, pattern);
    for (const topic of meant) assert(matches(topic), `${pattern} ${topic}`);
    for (const topic of others) assert(!matches(topic), `${pattern} ${topic}`);
  }
});

test("plain topics are no patterns", () => {
  for (const topic of ["job/42", "https://example.com:8080/x", "urn:uuid:1234", "a:b", "Foo::bar", "a\\b?+"]) {
    assert(!isPattern(topic), topic);
  }
});

test("what the hub refuses is no pattern here either", () => {
  const refused = ["room/(\\d+)", "{(a)}", "{", "{a*", "a}*", "{a{b}}", "{*:a}", "{ab}+", "{:a-}*", "*\\"];
  for (const text of [...refused, "a*".repeat(33), "a".repeat(1025)]) assert.equal(matcher(text), null, text);
});

test("the slowest pattern takes one pass for each of its parts", () => {
  const topic = `${"a".repeat(1023)}b`;
  const slow = [`${"*a".repeat(31)}c*`, `${":a{a}".repeat(16)}c`, `*${"a".repeat(1000)}c*`, `${"{*a}?".repeat(16)}c`];
  for (const text of [...slow, `${"{a}?".repeat(30)}*c*`]) {
    // With a way back this would take years.
    assert.equal(matcher(text)?.(topic), false, text);
  }
});

/** @typedef {string | {tokens: Token[], modifier: string}} Token A character, `*`, `:n`, or a group. */

/**
 * @param {Token[]} tokens
 * @param {string} topic
 * @returns {boolean}
 */
function naive([first, ...rest], topic) {
  if (first === undefined) return topic === "";
  const ends = Array.from({ length: topic.length + 1 }, (_, end) => end);
  if (first === "*") return ends.some((end) => naive(rest, topic.slice(end)));
  if (first === ":n") return ends.some((end) => end > 0 && !topic.slice(0, end).includes("/") && naive(rest, topic.slice(end)));
  if (typeof first === "string") return topic.startsWith(first) && naive(rest, topic.slice(1));
  const { tokens, modifier } = first;
  if ("?*".includes(modifier || "-") && naive(rest, topic)) return true;
  return ends.some((end) => {
    if (!naive(tokens, topic.slice(0, end))) return false;
    return naive(rest, topic.slice(end)) || ("+*".includes(modifier || "-") && end > 0 && naive([first, ...rest], topic.slice(end)));
  });
}

/**
 * @param {Token[]} tokens
 * @param {boolean} [isGroup]
 * @returns {string}
 */
function written(tokens, isGroup = false) {
  return tokens
    .map((token) => {
      if (typeof token !== "string") return `{${written(token.tokens, true)}}${token.modifier}`;
      if (token !== "*" && token !== ":n") return `\\${token}`;
      return isGroup ? token : `{${token}}`;
    })
    .join("");
}

test("it means what the naive matcher says", () => {
  let seed = 1;
  const random = (/** @type {number} */ below) => {
    seed = (seed * 48_271) % 0x7fffffff;
    return seed % below;
  };
  const times = (/** @type {number} */ most, /** @type {() => Token} */ make) => Array.from({ length: random(most + 1) }, make);
  const character = () => "ab/é"[random(4)];
  const wildcard = () => ["*", ":n"][random(2)];
  const inGroup = () => [...times(2, character), ...times(1, wildcard), ...times(2, character)];
  const group = () => ({ tokens: inGroup(), modifier: ["", "?", "+", "*"][random(4)] });
  let meant = 0;
  for (let i = 0; i < 4000; i += 1) {
    const tokens = times(6, () => [character, character, wildcard, group][random(4)]());
    const text = written(tokens);
    const matches = matcher(text);
    if (!matches) {
      assert(tokens.some((token) => typeof token !== "string" && "+*".includes(token.modifier || "-")), text);
      continue;
    }
    for (let j = 0; j < 8; j += 1) {
      const topic = times(7, character).join("");
      const expected = naive(tokens, topic);
      assert.equal(matches(topic), expected, `${text} ${topic}`);
      meant += Number(expected);
    }
  }
  assert(meant > 1000, String(meant));
});
