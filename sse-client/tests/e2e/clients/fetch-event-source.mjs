// Made for browsers: it asks the page's window for `fetch` and timers, and its document for whether anyone looks.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const { fetchEventSource } = await import("@microsoft/fetch-event-source");
const { end, event, url } = await import("./told.mjs");

fetchEventSource(url, {
  onmessage: message => message.event || event(message.data),
  onclose: () => end(),
  // It tries again after an error.
  onerror: end,
});
