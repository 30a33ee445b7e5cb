"""Publish events and the progress of jobs to an sse-server hub. One file, and nothing but the standard library.

    from sse_hub import init_sse, send_progress_update, send_completion_update

    init_sse(config={"hub_url": "http://127.0.0.1:8080"})
    send_progress_update("42", 30, "Processing")
    send_completion_update("42", {"url": "/summaries/7"})

All threads may use it at the same time. No call takes longer than its time-out, beside what the system takes to look
up the hub's name: what goes wrong on the way is tried again until then, and what stays wrong is a `HubError` that
says so in the hub's words.
"""

from __future__ import annotations

import difflib
import http.client
import io
import json
import logging
import os
import random
import select
import socket
import ssl
import threading
import time
import uuid
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import quote, urlsplit

__all__ = [
    "HubError",
    "HubUnavailable",
    "JobEnded",
    "SSEManager",
    "get_connection_stats",
    "get_health_status",
    "init_sse",
    "publish",
    "send_completion_update",
    "send_error_update",
    "send_progress_update",
]
__version__ = "0.1.0"

Json = Dict[str, Any]
logger = logging.getLogger("sse_hub")


class HubError(Exception):
    """The hub refused; trying again would not help. The message is the hub's."""

    def __init__(self, message: str, status: int = 0, code: str = "", field: str = "") -> None:
        super().__init__(message)
        #: The HTTP status; 0 when there was no answer.
        self.status = status
        #: The hub's name for the reason, where it has one.
        self.code = code
        #: The field of the request that is wrong, where it is one.
        self.field = field


class HubUnavailable(HubError):
    """The hub could not be reached, or not take this, until the time-out. Trying again later may help."""


class JobEnded(HubError):
    """The job has ended: it is complete, has failed, or was cancelled, and takes no more updates."""


class SSEManager:
    """A connection to one hub: its address, who we are, and the sockets that are kept open."""

    def __init__(
        self,
        hub_url: Optional[str] = None,
        token: Optional[str] = None,
        *,
        timeout: float = 5.0,
        attempts: int = 4,
        pool_size: int = 8,
        ssl_context: Optional[ssl.SSLContext] = None,
    ) -> None:
        """
        :param hub_url: where the hub is; or else `SSE_HUB_URL`, or else `http://127.0.0.1:8080`.
        :param token: who we are; or else `SSE_HUB_TOKEN`, or else nobody in particular.
        :param timeout: the longest that a call takes, in seconds, with all its attempts.
        :param attempts: how often a request is sent at most.
        :param pool_size: how many sockets are kept open when nothing is sent. More are opened when more threads send.
        :param ssl_context: for `https://`, what to trust; the system's certificates, if left out.
        """
        url = hub_url or os.environ.get("SSE_HUB_URL") or "http://127.0.0.1:8080"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"not the URL of a hub: {url!r}; it looks like http://127.0.0.1:8080")
        if parts.username is not None:
            raise ValueError("a hub takes no password in its URL; give it a token")
        if timeout <= 0 or attempts < 1 or pool_size < 0:
            raise ValueError("timeout and attempts must be more than 0, pool_size not less")
        self.hub_url = url.rstrip("/")
        self.timeout = timeout
        self.attempts = attempts
        self._path = parts.path.rstrip("/")
        self._pool = _Pool(parts.scheme, parts.hostname, parts.port, pool_size, ssl_context)
        self._headers = {"Accept": "application/json", "User-Agent": f"sse-hub-python/{__version__}"}
        token = token or os.environ.get("SSE_HUB_TOKEN")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def publish(
        self,
        event_type: str,
        data: Any,
        topic: Union[str, List[str], None] = None,
        *,
        id: Optional[str] = None,  # noqa: A002: the hub's word
        **fields: Any,
    ) -> Json:
        """Publish an event; the answer comes when it is safe.

        :param data: anything that `json.dumps` takes.
        :param topic: one or several; everyone gets the event, if left out.
        :param id: under which it is stored once, however often it is sent. One is made up, if left out.
        :param fields: the hub's other fields, such as `user_id`, `session_id` and `ttl_seconds`.
        """
        event = {"event_type": event_type, "data": data, "id": id or str(uuid.uuid4()), **fields}
        if topic is not None:
            event["topic"] = topic
        return self._call("POST", "/events", event)

    def send_progress_update(
        self, job_id: str, progress: float, message: Optional[str] = None, **details: Any
    ) -> Json:
        """Say how far a job is; a job that the hub does not know is created.

        :param details: `total`, and whatever else is to be shown.
        :raises JobEnded: when somebody has cancelled it, for example: the work can stop.
        """
        if message is not None:
            details["message"] = message
        return self._update(job_id, "progress", {"progress": progress, **details})

    def send_completion_update(self, job_id: str, result: Any = None, **details: Any) -> Json:
        """Say that a job is done, and with what."""
        return self._update(job_id, "complete", {"result": result, **details}, ends_as="completed")

    def send_error_update(self, job_id: str, error: Any, **details: Any) -> Json:
        """Say that a job has failed, and why: a text, or the exception itself."""
        text = (str(error) or type(error).__name__) if isinstance(error, BaseException) else error
        return self._update(job_id, "error", {"error": text, **details}, ends_as="error")

    def get_job(self, job_id: str) -> Json:
        """A job as it is now."""
        return self._call("GET", f"/jobs/{quote(job_id, safe='')}")

    def get_health_status(self) -> Json:
        """How the hub's streams are: `status` is `healthy`, `warning` or `critical`, and `reasons` says why."""
        # A hub that is not well says so with a status other than 200.
        return self._call("GET", "/sse/health", says_how_it_is=True)

    def get_connection_stats(self) -> Json:
        """How many readers and events there are, and how fast they are served."""
        return self._call("GET", "/events/stats")

    def close(self) -> None:
        """Close the sockets that are kept open. The next call opens one again."""
        self._pool.close()

    def __enter__(self) -> SSEManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _update(self, job_id: str, what: str, body: Json, ends_as: str = "") -> Json:
        deadline = time.monotonic() + self.timeout
        path = f"/jobs/{quote(job_id, safe='')}"
        for is_last in (False, True):
            try:
                return self._call("POST", f"{path}/{what}", body, deadline)
            except HubError as error:
                if error.status == 404 and not is_last:
                    self._create(job_id, deadline)
                    continue
                if error.status != 409:
                    raise
                job = self._call("GET", path, deadline=deadline)
                # The answer to an earlier attempt was lost, and this job has ended as it should.
                if ends_as and job["status"] == ends_as and all(job.get(key) == body[key] for key in body):
                    return job
                raise JobEnded(str(error), error.status, error.code, error.field) from None
        raise AssertionError("the second time returns or raises")

    def _create(self, job_id: str, deadline: float) -> None:
        try:
            self._call("POST", "/jobs", {"job_id": job_id}, deadline)
        except HubError as error:
            if error.status != 409:  # somebody else was faster
                raise

    def _call(
        self,
        method: str,
        path: str,
        body: Optional[Json] = None,
        deadline: Optional[float] = None,
        says_how_it_is: bool = False,
    ) -> Json:
        """One request, sent until it is answered; it must be safe to send again."""
        until = time.monotonic() + self.timeout if deadline is None else deadline
        content = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        attempt = 0
        while True:
            attempt += 1
            is_last = attempt >= self.attempts
            # A hub that hangs leaves time for another attempt.
            remaining = until - time.monotonic()
            attempt_until = until if is_last else until - remaining / 2
            wait = random.random() * 0.05 * 2**attempt
            try:
                answer = self._ask(method, path, content, attempt_until)
            except (OSError, http.client.HTTPException) as cause:
                error: HubError = HubUnavailable(f"{self.hub_url} does not answer: {cause or type(cause).__name__}")
                error.__cause__ = cause
            else:
                if answer.status < 300 or (says_how_it_is and answer.says_how_it_is):
                    return answer.object
                if answer.status not in _TEMPORARY:
                    raise answer.error(HubError)
                error = answer.error(HubUnavailable)
                wait += answer.retry_after
            # What has hardly any time is not begun: its time-out would hide what was wrong.
            if is_last or time.monotonic() + wait + self.timeout / 10 >= until:
                raise error
            logger.debug("%s %s: %s; again in %.3f s", method, path, error, wait)
            time.sleep(wait)

    def _ask(self, method: str, path: str, content: Optional[bytes], until: float) -> _Answer:
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        connection = self._pool.take(until)
        is_reusable = False
        try:
            connection.until = until
            connection.send_timed(method, self._path + path, content, headers)
            response = connection.getresponse()
            answer = _Answer(response)
            is_reusable = not response.will_close
            return answer
        finally:
            if is_reusable:
                self._pool.give_back(connection)
            else:
                connection.close()


class _Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        try:
            body = json.loads(response.read())
        except ValueError:
            body = None
        if self.status < 300 and not isinstance(body, dict):
            raise http.client.HTTPException("the answer is not the hub's: no JSON object")
        self.object: Json = body if isinstance(body, dict) else {}
        #: Of a problem, `status` is a number.
        self.says_how_it_is = isinstance(self.object.get("status"), str)
        retry_after = response.headers.get("Retry-After") or ""
        self.retry_after = int(retry_after) if retry_after.isdecimal() else 0

    def error(self, kind: type[HubError]) -> HubError:
        message = self.object.get("detail") or f"the hub answered {self.status}"
        return kind(message, self.status, self.object.get("code", ""), self.object.get("field", ""))


class _Pool:
    """Open connections that nobody uses now, the one used last on top."""

    def __init__(
        self, scheme: str, host: str, port: Optional[int], size: int, context: Optional[ssl.SSLContext]
    ) -> None:
        self._is_tls = scheme == "https"
        self._context = context
        self._address = (host, port or (443 if self._is_tls else 80))
        self._size = size
        self._lock = threading.Lock()
        self._idle: List[_Connection] = []
        self._process = os.getpid()

    def take(self, until: float) -> _Connection:
        while True:
            if self._process != os.getpid():
                self._begin_anew()
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._open(until)
            if connection.is_quiet():
                return connection
            connection.close()

    def give_back(self, connection: _Connection) -> None:
        with self._lock:
            is_kept = len(self._idle) < self._size and self._process == os.getpid()
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _begin_anew(self) -> None:
        """In a forked process: the sockets are not ours to speak on, and nobody may be left to open the lock."""
        self._lock, self._process = threading.Lock(), os.getpid()
        self.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _open(self, until: float) -> _Connection:
        host, port = self._address
        sock = _connected(host, port, until)
        if self._is_tls:
            if self._context is None:
                self._context = ssl.create_default_context()
            sock.settimeout(_remaining(until))
            try:
                sock = self._context.wrap_socket(sock, server_hostname=host)
            except BaseException:
                sock.close()
                raise
        connection = _Connection(host, port)
        connection.default_port = 443 if self._is_tls else 80
        connection.sock = sock
        return connection


class _Connection(http.client.HTTPConnection):
    """A connection with one deadline for all of a request, however slowly its bytes come."""

    auto_open = 0  # the pool connects
    until = 0.0

    def send_timed(self, method: str, path: str, content: Optional[bytes], headers: Mapping[str, str]) -> None:
        self.sock.settimeout(_remaining(self.until))
        self.request(method, path, content, dict(headers))

    def is_quiet(self) -> bool:
        """Whether the hub has neither closed it nor sent something that nobody asked for."""
        try:
            return self.sock is not None and not select.select([self.sock], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_TimedReader(response.fp.detach(), sock, self.until))
        return response


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until: float) -> None:
        self._raw, self._sock, self._until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        self._sock.settimeout(_remaining(self._until))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _connected(host: str, port: int, until: float) -> socket.socket:
    """Connects to the first of the host's addresses that answers."""
    failure: Optional[OSError] = None
    addresses: List[Tuple[Any, ...]] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_remaining(until) / (len(addresses) - index))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure or OSError(f"{host} has no address")


def _remaining(until: float) -> float:
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise socket.timeout("timed out")
    return remaining


#: Refusals that pass by themselves.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)

#: What `init_sse` takes for the hub's own settings: these are flags of sse-server.
_OF_THE_HUB = {
    "max_connections": "--max-connections",
    "max_connections_per_ip": "--max-connections-per-ip",
    "heartbeat_interval": "--heartbeat",
    "compression_threshold": "--compression-threshold",
    "idle_timeout": "--idle-timeout",
}
_SETTINGS = ("hub_url", "token", "timeout", "attempts", "pool_size", "ssl_context")

_manager: Optional[SSEManager] = None
_manager_lock = threading.Lock()


def init_sse(app: Any = None, config: Optional[Mapping[str, Any]] = None) -> SSEManager:
    """Make the manager that the functions of this module use.

    :param app: a Flask application, whose `config` may say `SSE_HUB_URL` and `SSE_HUB_TOKEN`; the manager is then in
        `app.extensions["sse"]`.
    :param config: the arguments of `SSEManager`.
    """
    global _manager
    given = dict(config or {})
    for name, flag in _OF_THE_HUB.items():
        if given.pop(name, None) is not None:
            logger.warning("%s is not set here: start the hub with %s", name, flag)
    for name in given:
        if name not in _SETTINGS:
            near = difflib.get_close_matches(name, _SETTINGS, 1)
            raise ValueError(f"no such setting: {name}" + (f"; did you mean {near[0]}?" if near else ""))
    if app is not None:
        given.setdefault("hub_url", app.config.get("SSE_HUB_URL"))
        given.setdefault("token", app.config.get("SSE_HUB_TOKEN"))
    manager = SSEManager(**given)
    if app is not None:
        app.extensions["sse"] = manager
    with _manager_lock:
        _manager = manager
    return manager


def _current() -> SSEManager:
    global _manager
    manager = _manager
    if manager is None:
        with _manager_lock:
            manager = _manager = _manager or SSEManager()
    return manager


def publish(event_type: str, data: Any, topic: Union[str, List[str], None] = None, **fields: Any) -> Json:
    """See `SSEManager.publish`."""
    return _current().publish(event_type, data, topic, **fields)


def send_progress_update(job_id: str, progress: float, message: Optional[str] = None, **details: Any) -> Json:
    """See `SSEManager.send_progress_update`."""
    return _current().send_progress_update(job_id, progress, message, **details)


def send_completion_update(job_id: str, result: Any = None, **details: Any) -> Json:
    """See `SSEManager.send_completion_update`."""
    return _current().send_completion_update(job_id, result, **details)


def send_error_update(job_id: str, error: Any, **details: Any) -> Json:
    """See `SSEManager.send_error_update`."""
    return _current().send_error_update(job_id, error, **details)


def get_health_status() -> Json:
    """See `SSEManager.get_health_status`."""
    return _current().get_health_status()


def get_connection_stats() -> Json:
    """See `SSEManager.get_connection_stats`."""
    return _current().get_connection_stats()
