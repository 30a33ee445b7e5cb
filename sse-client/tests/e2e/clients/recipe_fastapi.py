"""Serves the FastAPI application of the recipes, with a page that tells what it hears."""

import os
import pathlib
import socket

import uvicorn
from fastapi import Request
from fastapi.responses import FileResponse
from fastapi_app import app

if "HUB_SECRET_FILE" in os.environ:
    import fastapi_token  # noqa: F401

FOLDER = pathlib.Path(__file__).parent


@app.get("/start")
def start():
    return FileResponse(FOLDER / "recipe_page.html")


@app.get("/scripts/{name}")
def script(name: str):
    return FileResponse(FOLDER / name)


@app.post("/heard")
async def heard(request: Request):
    print("heard", (await request.body()).decode(), flush=True)
    return {}


listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
