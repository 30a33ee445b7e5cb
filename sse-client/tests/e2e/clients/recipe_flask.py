"""Serves the Flask application of the recipes, with a page that tells what it hears."""

import pathlib

from flask import request, send_from_directory
from flask_app import app
from werkzeug.serving import make_server

FOLDER = pathlib.Path(__file__).parent


@app.get("/start")
def start():
    return send_from_directory(FOLDER, "recipe_page.html")


@app.get("/scripts/<name>")
def script(name):
    return send_from_directory(FOLDER, name)


@app.post("/heard")
def heard():
    print("heard", request.get_data(as_text=True), flush=True)
    return {}


server = make_server("127.0.0.1", 0, app, threaded=True)
print(f"listening on http://127.0.0.1:{server.port}", flush=True)
server.serve_forever()
