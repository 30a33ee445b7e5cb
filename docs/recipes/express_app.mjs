import express from "express";
import session from "express-session";

export const app = express();
app.set("trust proxy", "loopback"); // nginx says that the visitor came by HTTPS
app.use(
  session({
    name: "__Host-session",
    secret: process.env.SECRET_KEY,
    cookie: { secure: true, httpOnly: true, sameSite: "lax", path: "/" },
    resave: false,
    saveUninitialized: false, // sessions are kept in memory here: give yours a `store`
  }),
);
const expiresIn = Number(process.env.HUB_EXPIRES_IN ?? 300);

// 401 and never a redirect, which is no answer for the hub.
export function loginRequired(request, response, next) {
  if (request.session.user) next();
  else response.sendStatus(401);
}

app.get("/hub-access", loginRequired, (request, response) => {
  response.json({
    user: request.session.user,
    grants: { subscribe: ["news"] },
    expires_in: expiresIn,
  });
});

app.post("/login", express.json(), (request, response, next) => {
  // Yours checks a password here.
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = request.body.user;
    response.json({});
  });
});

app.post("/logout", (request, response, next) => {
  request.session.destroy((error) => {
    if (error) return next(error);
    response.clearCookie("__Host-session", { secure: true, httpOnly: true, path: "/" });
    response.json({});
  });
});
