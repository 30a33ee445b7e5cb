import os
import secrets

from flask import Flask, abort, request, session

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]
app.config.update(
    SESSION_COOKIE_NAME="__Host-session",
    SESSION_COOKIE_SECURE=True,
    SESSION_COOKIE_HTTPONLY=True,
    SESSION_COOKIE_SAMESITE="Lax",
)
EXPIRES_IN = int(os.environ.get("HUB_EXPIRES_IN", "300"))

# Who is logged in. Keep it in your database.
logins = {}


def logged_in():
    """The user of this request, or 401: never a redirect, which is no answer for the hub."""
    user = logins.get(session.get("login"))
    if user is None:
        abort(401)
    return user


@app.get("/hub-access")
def hub_access():
    return {
        "user": logged_in(),
        "grants": {"subscribe": ["news"]},
        "expires_in": EXPIRES_IN,
    }


@app.post("/login")
def login():
    # Yours checks a password here.
    session.clear()
    session["login"] = secrets.token_urlsafe()
    logins[session["login"]] = request.get_json()["user"]
    return {}


@app.post("/logout")
def logout():
    logins.pop(session.get("login"), None)
    session.clear()
    return {}
