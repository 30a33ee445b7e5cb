import time
import uuid
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import FileResponse

from sse_hub import init_sse, send_completion_update, send_error_update, send_progress_update

app = FastAPI()
init_sse()


# Not `async`: FastAPI runs it in a thread, where it may wait.
def summarise(job_id: str) -> None:
    try:
        for page in range(1, 11):
            time.sleep(0.2)  # the work
            send_progress_update(job_id, 10 * page, f"Page {page} of 10")
        send_completion_update(job_id, {"pages": 10})
    except Exception as error:
        send_error_update(job_id, error)
        raise


@app.post("/jobs")
def start(tasks: BackgroundTasks):
    job_id = str(uuid.uuid4())
    send_progress_update(job_id, 0, "Waiting")
    tasks.add_task(summarise, job_id)
    return {"job_id": job_id}


@app.get("/")
def page():
    return FileResponse(Path(__file__).with_name("index.html"))
