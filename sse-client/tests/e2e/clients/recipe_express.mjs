// Serves the Express application of the recipes, with a page that tells what it hears.

import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import express from "express";
import { app } from "./express_app.mjs";

const root = dirname(fileURLToPath(import.meta.url));

app.get("/start", (request, response) => {
  response.sendFile("recipe_page.html", { root });
});

app.get("/scripts/:name", (request, response) => {
  response.sendFile(request.params.name, { root });
});

app.post("/heard", express.text({ type: "*/*" }), (request, response) => {
  console.log("heard", request.body);
  response.json({});
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
