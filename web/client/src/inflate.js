/** Loaded with the first message that is compressed. */

/** As long as an event may be that is not compressed, in bytes; a bomb is larger. */
const MAX = 16 << 20;

/** @param {string} base64 */
export async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.length;
    if (length > MAX) {
      await reader.cancel();
      throw new RangeError(`a message of more than ${MAX} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}
