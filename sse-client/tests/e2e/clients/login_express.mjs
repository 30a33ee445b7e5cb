// An Express application with a login, whose sessions also open the hub.

import { randomBytes } from "node:crypto";
import express from "express";
import session from "express-session";

const app = express();
app.use(session({ secret: randomBytes(32).toString("hex"), resave: false, saveUninitialized: false }));

function loginRequired(request, response, next) {
  if (request.session.user) next();
  else response.sendStatus(401);
}

app.get("/hub-access", loginRequired, (request, response) => {
  response.json({
    user: request.session.user,
    grants: { subscribe: ["news"], publish: ["news"] },
    expires_in: 3600,
  });
});

// A real application asks for a password.
app.get("/login", (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = request.query.user;
    response.send(`<!doctype html><title>news</title><script>
const hub = new URLSearchParams(location.search).get("hub");
const source = new EventSource(hub + "/events?topic=news", {withCredentials: true});
source.onmessage = event => fetch("/heard", {method: "POST", body: event.data});
</script>`);
  });
});

app.post("/heard", loginRequired, express.text({ type: "*/*" }), (request, response) => {
  console.log("heard", request.session.user, request.body);
  response.json({});
});

app.get("/logout", (request, response, next) => {
  request.session.destroy((error) => {
    if (error) return next(error);
    response.clearCookie("connect.sid");
    response.json({});
  });
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
