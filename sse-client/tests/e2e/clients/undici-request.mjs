import { request } from "undici";
import { end, read, url } from "./told.mjs";

request(url).then(response => read(response.body)).then(() => end(), end);
