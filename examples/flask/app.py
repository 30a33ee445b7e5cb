import threading
import time
import uuid

from flask import Flask, send_file

from sse_hub import init_sse, send_completion_update, send_error_update, send_progress_update

app = Flask(__name__)
init_sse(app)


def summarise(job_id):
    try:
        for page in range(1, 11):
            time.sleep(0.2)  # the work
            send_progress_update(job_id, 10 * page, f"Page {page} of 10")
        send_completion_update(job_id, {"pages": 10})
    except Exception as error:
        send_error_update(job_id, error)
        raise


@app.post("/jobs")
def start():
    job_id = str(uuid.uuid4())
    send_progress_update(job_id, 0, "Waiting")
    threading.Thread(target=summarise, args=(job_id,)).start()
    return {"job_id": job_id}


@app.get("/")
def page():
    return send_file("index.html")
