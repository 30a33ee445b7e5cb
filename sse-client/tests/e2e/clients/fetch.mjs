import { end, read, url } from "./told.mjs";

fetch(url).then(response => read(response.body)).then(() => end(), end);
