import os
import secrets
from typing import Annotated

from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Response

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
COOKIE = "__Host-session"
EXPIRES_IN = int(os.environ.get("HUB_EXPIRES_IN", "300"))

# Who is logged in. Keep it in your database.
logins = {}

SessionCookie = Annotated[str | None, Cookie(alias=COOKIE)]


def logged_in(login: SessionCookie = None) -> str:
    """The user of this request, or 401: never a redirect, which is no answer for the hub."""
    if login not in logins:
        raise HTTPException(401)
    return logins[login]


User = Annotated[str, Depends(logged_in)]


@app.get("/hub-access")
def hub_access(user: User):
    return {
        "user": user,
        "grants": {"subscribe": ["news"]},
        "expires_in": EXPIRES_IN,
    }


@app.post("/login")
def log_in(user: Annotated[str, Body(embed=True)], response: Response):
    # Yours checks a password here.
    login = secrets.token_urlsafe()
    logins[login] = user
    response.set_cookie(COOKIE, login, secure=True, httponly=True, samesite="lax")
    return {}


@app.post("/logout")
def log_out(response: Response, login: SessionCookie = None):
    logins.pop(login, None)
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax")
    return {}
