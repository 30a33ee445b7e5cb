import got from "got";
import { end, read, url } from "./told.mjs";

read(got.stream(url)).then(() => end(), end);
