// The types that the hooks promise: `npm run check` fails where one does not hold.
import { useJob, useSSE, useTokens, type Events } from "sse-server-react";

type Progress = { percent: number };
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const holds = <T extends true>(_?: T) => {};

export function Plain() {
  const { data, events, error } = useSSE<Progress>("/events", { event: "progress", maxRetries: 3 });
  holds<Same<typeof data, Progress | null>>();
  holds<Same<(typeof events)[number], { type: string; data: Progress; id: string }>>();
  holds<Same<NonNullable<typeof error>["status"], number>>();
  // @ts-expect-error: there is no such option
  useSSE("/events", { evnet: "progress" });
}

export function ByType() {
  const { data, events } = useSSE<Events<{ progress: Progress; done: { pages: number } }>>(null, { history: 10 });
  holds<Same<typeof data, Progress | { pages: number } | null>>();
  for (const it of events) {
    if (it.type === "progress") holds<Same<typeof it.data, Progress>>();
    else holds<Same<typeof it.data, { pages: number }>>();
  }
}

export function Selected() {
  const { data } = useSSE<Progress, number>("/events", { select: ({ percent }) => percent });
  holds<Same<typeof data, number | null>>();
  const { data: any } = useSSE("/events", { select: (it) => String(it) });
  holds<Same<typeof any, string | null>>();
}

export function Others() {
  const { result, status, error } = useJob<{ pages: number }>("a", { url: "https://hub.example" });
  holds<Same<typeof result, { pages: number } | null>>();
  holds<Same<typeof status, "pending" | "in_progress" | "completed" | "error" | "cancelled" | null>>();
  holds<Same<typeof error, Error | null>>();
  const { text, stop } = useTokens("answer", { select: (data) => data.delta });
  holds<Same<typeof text, string>>();
  holds<Same<ReturnType<typeof stop>, Promise<void>>>();
}
