"""A live server, and requests below the level of the SDK."""
import http.client
import json
import os
import pathlib
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from urllib.parse import urlencode

from volcengine.Credentials import Credentials
from volcengine.auth.SignerV4 import SignerV4
from volcengine.base.Request import Request

REGION = "cn-north-1"
FINAL = ("done", "fail")


class Server:
    """One process on a free loopback port with its own data directory and administrator's key."""

    def __init__(self, binary, **settings):
        """`settings`: variables of the server's environment."""
        self.binary = binary
        self.settings = settings
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="knarr-sdk-"))
        self.data = self.root / "data"
        self.ak = "AKLT" + secrets.token_hex(16)
        self.sk = secrets.token_urlsafe(32)
        self.process = None
        self.host = None

    def environment(self):
        own = {"KNARR_ACCESS_KEY": self.ak, "KNARR_SECRET_KEY": self.sk}
        return {**os.environ, **own, **self.settings}

    def start(self):
        self.log = open(self.root / "server.log", "ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0"],
            env=self.environment(), stdout=subprocess.PIPE, stderr=self.log)
        self.host = self._ready(deadline=time.monotonic() + 30)
        return self

    def _ready(self, deadline):
        seen = b""
        while not (found := re.search(rb"^knarr ready on http://(\S+)$", seen, re.MULTILINE)):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 4096) if readable else b""
            if not piece:
                raise AssertionError(f"no ready line; stdout {seen!r}, log:\n{self.log_text()}")
            seen += piece
        return found[1].decode()

    def stop(self):
        """SIGTERM drains and exits 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.log.close()
        assert code == 0, f"exit code {code} after SIGTERM, log:\n{self.log_text()}"

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def log_text(self):
        return (self.root / "server.log").read_text(errors="replace")

    def command(self, *arguments):
        """A client command of the binary against this server; its standard output."""
        done = subprocess.run([self.binary, *arguments, "--server", f"http://{self.host}"], env=self.environment(),
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def objects(self, prefix):
        """`knarr bucket ls PREFIX --json`."""
        return json.loads(self.command("bucket", "ls", prefix, "--json"))

    def download(self, path):
        """Bytes of the object `bucket/key`."""
        target = self.root / "download"
        self.command("bucket", "get", path, str(target))
        return target.read_bytes()


def sign(server, method, path, body="", query=None, host=None, headers=None, ak=None, sk=None):
    """Headers of a request as the vendor's signer makes them. `host` None leaves Host unsigned, like the samples."""
    request = Request()
    request.set_method(method)
    request.set_path(path)
    request.set_query(dict(query or {}))
    request.set_body(body)
    request.set_headers(dict({"Content-Type": "application/json"} if headers is None else headers))
    if host is not None:
        request.headers["Host"] = host
    SignerV4.sign(request, Credentials(ak or server.ak, sk or server.sk, "air", REGION))
    return request.headers


class Answer:
    """An answer and the connection it came over."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        return self.json["code"]


def connect(server):
    host, port = server.host.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def frame(server, method, target, headers, body=b"", framing=None):
    """The bytes of a request. `framing` replaces the Content-Length line; the body is sent as it is."""
    lines = [f"{method} {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name in headers):
        lines.append(f"Host: {server.host}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if framing is None else framing
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def receive(connection, method="GET"):
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response)


def call(server, method, path, body=None, query=None, **signing):
    """One signed request over its own connection. A dict is sent as JSON, a string as it is."""
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    headers = sign(server, method, path, text, query, **signing)
    target = path + ("?" + urlencode(query) if query else "")
    with connect(server) as connection:
        connection.sendall(frame(server, method, target, headers, text.encode()))
        return receive(connection, method)


def wait(service, task_id, *states, seconds=30):
    """The task, as soon as it is in one of `states`."""
    deadline = time.monotonic() + seconds
    while True:
        task = service.get_task(task_id)
        if task.task_status in states:
            return task
        assert task.task_status not in FINAL, f"task ended as {task.task_status}: {task.process_info}"
        assert time.monotonic() < deadline, f"task is still {task.task_status}: {task.process_info}"
        time.sleep(0.02)


def wait_until(condition, seconds=30):
    """Waits for something that the server does in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.05)
