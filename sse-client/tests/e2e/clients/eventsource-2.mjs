import EventSource from "eventsource-2";
import { listen, url } from "./told.mjs";

listen(new EventSource(url));
