"""A Flask application with a login, whose sessions also open the hub."""

import functools
import secrets

from flask import Flask, abort, request, session
from werkzeug.serving import make_server

app = Flask(__name__)
app.secret_key = secrets.token_bytes(32)


def login_required(view):
    @functools.wraps(view)
    def checked(*args, **kwargs):
        if "user" not in session:
            abort(401)
        return view(*args, **kwargs)

    return checked


@app.get("/hub-access")
@login_required
def hub_access():
    return {
        "user": session["user"],
        "grants": {"subscribe": ["news"], "publish": ["news"]},
        "expires_in": 3600,
    }


@app.get("/login")
def login():
    # A real application asks for a password.
    session.clear()
    session["user"] = request.args["user"]
    return """<!doctype html><title>news</title><script>
const hub = new URLSearchParams(location.search).get("hub");
const source = new EventSource(hub + "/events?topic=news", {withCredentials: true});
source.onmessage = event => fetch("/heard", {method: "POST", body: event.data});
</script>"""


@app.post("/heard")
@login_required
def heard():
    print("heard", session["user"], request.get_data(as_text=True), flush=True)
    return {}


@app.get("/logout")
def logout():
    session.clear()
    return {}


server = make_server("127.0.0.1", 0, app, threaded=True)
print(f"listening on http://127.0.0.1:{server.port}", flush=True)
server.serve_forever()
