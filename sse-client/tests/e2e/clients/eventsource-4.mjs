import { EventSource } from "eventsource-4";
import { listen, url } from "./told.mjs";

listen(new EventSource(url));
