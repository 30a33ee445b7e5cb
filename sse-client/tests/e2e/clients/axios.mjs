import axios from "axios";
import { end, read, url } from "./told.mjs";

axios.get(url, { responseType: "stream" }).then(response => read(response.data)).then(() => end(), end);
