// What every client of Node's says, and how those that hand on bytes are read.

/** One line for an event: when the client handed it over, in microseconds of the clock, and its data. */
export function event(data) {
  const now = performance.timeOrigin + performance.now();
  console.log(`event ${Math.round(now * 1000)} ${data}`);
}

/** How the stream ended: an error, or none. */
export function end(error) {
  console.log(error ? `error ${error} ${error.cause ?? ""}` : "end");
}

/** Takes the bytes of a stream as the client hands them on. */
export async function read(chunks) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) event(line.slice(6));
  }
}

/** Hears an `EventSource`, which tells neither an error from an end nor stops by itself. */
export function listen(source) {
  source.onmessage = message => event(message.data);
  source.onerror = () => {
    source.close();
    end();
  };
}

/** The stream that the test wants to be read. */
export const url = process.argv[2];
