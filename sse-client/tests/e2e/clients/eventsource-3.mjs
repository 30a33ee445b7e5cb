import { EventSource } from "eventsource-3";
import { listen, url } from "./told.mjs";

listen(new EventSource(url));
