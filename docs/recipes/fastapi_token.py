import os
import time
from pathlib import Path

import jwt
from fastapi_app import User, app

SECRET = Path(os.environ["HUB_SECRET_FILE"]).read_text().strip()
LIFETIME = int(os.environ.get("HUB_EXPIRES_IN", "300"))


@app.post("/hub-token")
def hub_token(user: User):
    now = int(time.time())
    claims = {
        "sub": user,
        "iss": "app.example",
        "aud": "hub",
        "iat": now,
        "exp": now + LIFETIME,
        "sse": {"subscribe": ["news"]},
    }
    return {"token": jwt.encode(claims, SECRET, algorithm="HS256")}
