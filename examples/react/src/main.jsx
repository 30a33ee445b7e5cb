import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { useJob, useSSE } from "sse-server-react";

const HUB = "http://127.0.0.1:8080";

function Job({ id }) {
  const { job, percent, message, status, result, error, isDone, cancel } = useJob(id, { url: HUB });
  if (!job) return <p role="status">There is no job {id} yet.</p>;
  return (
    <section>
      <h2>{job.title ?? id}</h2>
      <progress max="100" value={percent} aria-label="Progress" />
      <p role="status">
        {status === "completed" && `Done: ${result.pages} pages`}
        {status === "error" && `It failed: ${error.message}`}
        {status === "cancelled" && "Cancelled."}
        {!isDone && (message ?? "Waiting")}
      </p>
      {!isDone && <button onClick={() => cancel()}>Cancel</button>}
    </section>
  );
}

function Notes() {
  const { events, isConnected } = useSSE(`${HUB}/events?topic=notes`, { event: "note", history: 5 });
  return (
    <section className={isConnected ? "" : "stale"}>
      <h2>Notes</h2>
      <ul>
        {events.map(({ id, data }) => (
          <li key={id}>{data.text}</li>
        ))}
      </ul>
    </section>
  );
}

createRoot(document.getElementById("page")).render(
  <StrictMode>
    <h1>A job and some notes</h1>
    <Job id="demo" />
    <Notes />
  </StrictMode>,
);
