"""The module against the real hub, and against servers that misbehave. `SSE_SERVER_PROGRAM` says where the hub is."""

import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from types import SimpleNamespace
from urllib.request import urlopen

import sse_hub
from sse_hub import HubError, HubUnavailable, JobEnded, SSEManager, init_sse

PROGRAM = os.environ.pop("SSE_SERVER_PROGRAM", "sse-server")


class Hub:
    def __init__(self, *flags):
        self.folder = tempfile.TemporaryDirectory()
        self.flags = flags
        self.listen = "127.0.0.1:0"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "--listen", self.listen, "--data-dir", self.folder.name, "--log", "off", *self.flags],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = re.search(r"https?://\S+", self.process.stdout.readline()).group()
        self.listen = self.url.partition("://")[2]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.kill()
        self.folder.cleanup()

    def events(self, topic=""):
        after = f"{self.url}/events/poll?after=earliest{topic and '&topic=' + topic}"
        with urlopen(after, timeout=5) as answer:
            return [(event["event"], json.loads(event["data"])) for event in json.load(answer)["events"]]


class Misbehaving:
    """A server whose connections are handled one after the other, each as the next step says; the last holds for all that follow."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
            threading.Thread(target=self.handle, args=(connection, step), daemon=True).start()

    def handle(self, connection, step):
        with connection, connection.makefile("rb") as request:
            try:
                head = b"".join(iter(request.readline, b"\r\n"))
                length = re.search(rb"Content-Length: (\d+)", head)
                self.requests.append(request.read(int(length[1]) if length else 0))
                step(connection)
            except OSError:
                pass

    def stop(self):
        self.listener.close()


def answer(status, body, headers=""):
    return lambda connection: connection.sendall(
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode()
    )


def cut(connection):
    pass


def hang(connection):
    time.sleep(20)


def trickle(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


class AgainstTheHub(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hub = Hub()
        cls.addClassCleanup(cls.hub.stop)

    def setUp(self):
        self.sse = init_sse(config={"hub_url": self.hub.url})
        self.addCleanup(self.sse.close)

    def test_a_job_is_created_with_its_first_progress_and_told_to_its_end(self):
        sse_hub.send_progress_update("told", 30.0, "Processing", step="pages")
        sse_hub.send_completion_update("told", {"url": "/summaries/7"})
        events = self.hub.events("job/told")
        self.assertEqual([kind for kind, _ in events], ["status", "progress", "complete"])
        progress, complete = events[1][1], events[2][1]
        self.assertEqual((progress["progress"], progress["message"], progress["step"]), (30.0, "Processing", "pages"))
        self.assertEqual(complete["result"], {"url": "/summaries/7"})

    def test_a_failure_is_told_also_when_it_is_the_first_that_is_heard_of_a_job(self):
        sse_hub.send_error_update("failed é", ValueError("no such video"))
        self.assertEqual(self.sse.get_job("failed é")["error"], "no such video")

    def test_an_event_that_is_published_twice_under_one_id_is_there_once(self):
        first = sse_hub.publish("note", {"text": "héllo"}, topic="notes", id="note-1")
        again = sse_hub.publish("note", {"text": "héllo"}, topic="notes", id="note-1")
        self.assertTrue(again["duplicate"])
        self.assertEqual(first["position"], again["position"])
        self.assertEqual(self.hub.events("notes"), [("note", {"text": "héllo"})])

    def test_a_refusal_is_an_error_with_the_hubs_words_and_is_not_sent_again(self):
        with self.assertRaisesRegex(HubError, "session_filtr") as caught:
            sse_hub.publish("note", 1, session_filtr="s1")
        self.assertEqual(caught.exception.status, 400)
        self.assertNotIsInstance(caught.exception, HubUnavailable)
        with self.assertRaises(ValueError):
            sse_hub.publish("note", float("nan"))

    def test_whoever_works_on_a_cancelled_job_is_told_so(self):
        sse_hub.send_progress_update("stopped", 10)
        self.sse._call("POST", "/jobs/stopped/cancel", {})
        with self.assertRaisesRegex(JobEnded, "cancelled"):
            sse_hub.send_progress_update("stopped", 20)
        with self.assertRaises(JobEnded):
            sse_hub.send_completion_update("stopped", {})

    def test_a_completion_whose_answer_was_lost_is_no_error(self):
        sse_hub.send_completion_update("lost", {"n": 1}, message="done")
        self.assertEqual(sse_hub.send_completion_update("lost", {"n": 1}, message="done")["status"], "completed")
        with self.assertRaises(JobEnded):
            sse_hub.send_completion_update("lost", {"n": 2})
        sse_hub.send_completion_update("nothing")
        sse_hub.send_completion_update("nothing")

    def test_health_and_statistics_are_the_hubs(self):
        health = sse_hub.get_health_status()
        self.assertIn(health["status"], ("healthy", "warning", "critical"))
        self.assertEqual(health["connections"]["per_ip_limit"], 100)
        self.assertEqual(sse_hub.get_connection_stats()["active_connections"], 0)

    def test_threads_share_the_sockets_and_nothing_is_lost(self):
        def work(thread):
            for number in range(25):
                sse_hub.publish("count", [thread, number], topic="threads")

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events = [data for _, data in self.hub.events("threads&limit=1000")]
        self.assertEqual(sorted(events), [[thread, number] for thread in range(12) for number in range(25)])
        for thread in range(12):
            self.assertEqual([number for whose, number in events if whose == thread], list(range(25)))
        self.assertLessEqual(len(self.sse._pool._idle), 8)

    def test_one_socket_is_enough_for_one_thread(self):
        sse_hub.publish("note", 1, topic="kept")
        (before,) = [connection.sock.getsockname() for connection in self.sse._pool._idle]
        for number in range(5):
            sse_hub.publish("note", number, topic="kept")
        (after,) = [connection.sock.getsockname() for connection in self.sse._pool._idle]
        self.assertEqual(before, after)

    def test_a_forked_process_opens_sockets_of_its_own(self):
        sse_hub.publish("note", ["parent"], topic="forks")
        process = os.fork()
        if process == 0:
            try:
                sse_hub.publish("note", ["child"], topic="forks")
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        sse_hub.publish("note", ["parent"], topic="forks")
        self.assertEqual([data for _, data in self.hub.events("forks")], [["parent"], ["child"], ["parent"]])


class WithATroubledHub(unittest.TestCase):
    def misbehaving(self, *steps, **settings):
        server = Misbehaving(*steps)
        self.addCleanup(server.stop)
        sse = SSEManager(server.url, **settings)
        self.addCleanup(sse.close)
        return server, sse

    def test_a_hub_that_is_started_again_is_found_again(self):
        hub = Hub()
        self.addCleanup(hub.stop)
        sse = SSEManager(hub.url)
        self.addCleanup(sse.close)
        sse.publish("note", 1, topic="t")
        hub.kill()
        back = threading.Timer(0.3, hub.start)
        back.start()
        sse.attempts = 30
        sse.publish("note", 2, topic="t")
        back.join()
        self.assertEqual([data for _, data in hub.events("t")], [1, 2])

    def test_lost_answers_and_busy_hubs_are_tried_again_with_the_same_id(self):
        busy = answer(503, '{"detail": "no place"}', "Retry-After: 0\r\n")
        server, sse = self.misbehaving(cut, busy, answer(200, '{"id": "x"}'))
        self.assertEqual(sse.publish("note", 1), {"id": "x"})
        self.assertEqual(len(server.requests), 3)
        self.assertEqual(len(set(server.requests)), 1)

    def test_no_call_takes_longer_than_its_time_out(self):
        wait = answer(503, '{"detail": "come back"}', "Retry-After: 60\r\n")
        for step, words in (hang, "timed out"), (trickle, "timed out"), (wait, "come back"):
            server, sse = self.misbehaving(step, timeout=0.6)
            begun = time.monotonic()
            for call in (lambda: sse.publish("note", 1), lambda: sse.send_progress_update("a", 1), sse.get_health_status):
                with self.subTest(step=step, call=call), self.assertRaisesRegex(HubUnavailable, words):
                    call()
            self.assertLess(time.monotonic() - begun, 3 * 0.6 + 0.3)

    def test_nobody_there_is_an_error_that_names_the_hub(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with self.assertRaisesRegex(HubUnavailable, f"http://127.0.0.1:{port} does not answer"):
            SSEManager(f"http://127.0.0.1:{port}", timeout=1).publish("note", 1)

    def test_another_server_is_not_taken_for_a_hub(self):
        _, sse = self.misbehaving(answer(200, "<html>"))
        with self.assertRaisesRegex(HubUnavailable, "not the hub's"):
            sse.publish("note", 1)

    def test_a_hub_that_is_not_well_can_say_so(self):
        _, sse = self.misbehaving(answer(503, '{"status": "critical"}'))
        self.assertEqual(sse.get_health_status()["status"], "critical")


class Settings(unittest.TestCase):
    def test_a_token_opens_a_hub_that_asks_who_its_callers_are(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        tokens = os.path.join(folder.name, "tokens.json")
        make = [PROGRAM, "token", "new", "--token-file", tokens, "--publish", "job/*", "--subscribe", "job/*", "--name", "backend"]
        token = re.search(r"sse_\S+", subprocess.run(make, capture_output=True, text=True, check=True).stdout).group()
        hub = Hub("--token-file", tokens)
        self.addCleanup(hub.stop)
        with SSEManager(hub.url) as nobody, self.assertRaises(HubError) as caught:
            nobody.send_progress_update("a", 1)
        self.assertEqual(caught.exception.status, 401)
        os.environ.update(SSE_HUB_URL=hub.url + "/", SSE_HUB_TOKEN=token)
        self.addCleanup(os.environ.pop, "SSE_HUB_URL")
        self.addCleanup(os.environ.pop, "SSE_HUB_TOKEN")
        with SSEManager() as sse:
            self.assertEqual(sse.send_progress_update("a", 1)["progress"], 1)
            with self.assertRaises(HubError) as caught:
                sse.publish("note", 1, topic="news")
            self.assertEqual(caught.exception.status, 403)

    def test_over_https_the_hub_is_verified_and_the_socket_kept(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        cert, key = (os.path.join(folder.name, name) for name in ("hub.pem", "hub-key.pem"))
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        make += " -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
        hub = Hub("--tls-cert", cert, "--tls-key", key)
        self.addCleanup(hub.stop)
        url = hub.url.replace("127.0.0.1", "localhost")
        with SSEManager(url, ssl_context=ssl.create_default_context(cafile=cert)) as sse:
            sse.publish("note", 1, topic="kept")
            (before,) = [connection.sock.getsockname() for connection in sse._pool._idle]
            for number in range(3):
                sse.send_progress_update("secret", number)
            (after,) = [connection.sock.getsockname() for connection in sse._pool._idle]
            self.assertEqual(before, after)
        with self.assertRaisesRegex(HubUnavailable, "(?i)certificate"):
            SSEManager(url, timeout=1).publish("note", 1)
        begun = time.monotonic()
        silent = Misbehaving(hang)
        self.addCleanup(silent.stop)
        with self.assertRaisesRegex(HubUnavailable, "timed out"):
            SSEManager(silent.url.replace("http:", "https:"), timeout=0.5).publish("note", 1)
        self.assertLess(time.monotonic() - begun, 2)

    def test_an_application_says_where_the_hub_is_and_knows_the_manager(self):
        app = SimpleNamespace(config={"SSE_HUB_URL": "http://hub.example:9000"}, extensions={})
        sse = init_sse(app)
        self.assertIs(app.extensions["sse"], sse)
        self.assertEqual(sse.hub_url, "http://hub.example:9000")

    def test_settings_of_the_hub_are_named_as_such_and_unknown_ones_are_refused(self):
        with self.assertLogs("sse_hub", "WARNING") as logs:
            init_sse(None, {"max_connections": 500, "heartbeat_interval": 30})
        self.assertIn("--max-connections", logs.output[0])
        with self.assertRaisesRegex(ValueError, "did you mean token"):
            init_sse(config={"tokn": "sse_x"})

    def test_what_is_no_url_of_a_hub_is_refused(self):
        for url in ("127.0.0.1:8080", "ftp://hub", "http://", "http://hub/?a=1", "http://user:secret@hub"):
            with self.subTest(url=url), self.assertRaises(ValueError):
                SSEManager(url)


if __name__ == "__main__":
    unittest.main()
