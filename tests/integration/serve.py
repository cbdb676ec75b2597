"""A running `plane serve` in a directory of its own, for tests: started, waited for, stopped, and
checked for leftovers on the host."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import inventory
from leaks import Leaks

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PLANE_BUILD_DIR", ROOT / "build")).resolve()
PLANE = BUILD / "plane"
EXAMPLES = pathlib.Path(os.environ.get("PLANE_EXAMPLES_DIR", BUILD / "examples"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds=20, what="condition"):
    """Polls `condition` until it is true; returns its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def request(method, url, body=None, headers=None, timeout=30):
    """One HTTP request; error statuses are answers, not exceptions."""
    data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
    all_headers = {"content-type": "application/json"} if data is not None else {}
    all_headers.update(headers or {})
    call = urllib.request.Request(url, data=data, method=method, headers=all_headers)
    try:
        with urllib.request.urlopen(call, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


class Serve:
    def __init__(self, directory, extra=()):
        self.data = pathlib.Path(directory) / "data"
        self.log_path = pathlib.Path(directory) / "serve.log"
        self.listen = f"127.0.0.1:{free_port()}"
        self.proxy = f"127.0.0.1:{free_port()}"
        self.cluster = "localhost:" + self.proxy.split(":")[1]
        self.api = f"http://{self.listen}"
        self.extra = list(extra)
        self.process = None
        self.mount_base = None
        self.leaks = Leaks(self)

    def command(self):
        return [str(PLANE), "serve", "--data-dir", str(self.data), "--listen", self.listen,
                "--proxy-listen", self.proxy, "--cluster", self.cluster, *self.extra]

    def start(self):
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log,
                                        stdin=subprocess.DEVNULL)
        wait_until(self.is_ready, 30, "plane serve ready")
        self.leaks.look()  # what it holds is looked for after its end
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"plane serve ended: {self.log_text()}")
        try:
            state = request("GET", f"{self.api}/ctrl/c/{self.cluster}/state").json()
            is_open = request("GET", f"http://{self.proxy}/ready").status == 200
        except OSError:
            return False
        return is_open and any(d["ready"] and d["last_heartbeat_age"] is not None
                               for d in state["drones"])

    def log_text(self):
        return self.log_path.read_text(errors="replace")

    def child(self, role):
        """Process id of the role's present process, or None."""
        pids = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in pids.read_text().split():
            with contextlib.suppress(OSError):
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if role.encode() in words:
                    return int(pid)
        return None

    def shim_of(self, backend):
        """Process id of the backend's shim: the uppermost plane-shim above its processes."""
        found = None
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"SESSION_BACKEND_ID={backend}\0".encode() in (entry / "environ").read_bytes():
                    pid = entry.name
                    while True:
                        status = pathlib.Path(f"/proc/{pid}/status").read_text()
                        pid = re.search(r"^PPid:\s*(\d+)", status, re.M).group(1)
                        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                        if not words.startswith(b"plane-shim"):
                            break
                        found = int(pid)
        return found

    def kill_child(self, role):
        """kill -9 of a role; waits until its successor is another process."""
        old = self.child(role)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: self.child(role) not in (None, old), 20, f"new {role}")
        return old

    def plane(self, *words, check=True):
        result = subprocess.run([str(PLANE), *words], capture_output=True, text=True, timeout=60,
                                env={**os.environ, "PLANE_CONTROLLER": self.api})
        if check and result.returncode != 0:
            raise AssertionError(f"plane {' '.join(words)}: {result.stdout}{result.stderr}")
        return result

    def import_image(self, name, path, *flags):
        return self.plane("image", "import", name, str(path), *flags, "--data-dir", str(self.data))

    def connect(self, key=None, image="echo", wait=True, **spawn):
        """POST /ctrl/connect; waits until the backend is ready unless told otherwise."""
        env = spawn.pop("env", {})
        limits = spawn.pop("resource_limits", {})
        user = spawn.pop("user", None)
        auth = spawn.pop("auth", {})
        mount = spawn.pop("mount", False)
        body = {"spawn_config": {"executable": {"image": image, "env": env,
                                                "resource_limits": limits, "mount": mount},
                                 "cluster": self.cluster, **spawn},
                "user": user, "auth": auth}
        if key:
            body["key"] = {"name": key}
        answer = request("POST", f"{self.api}/ctrl/connect", body)
        assert answer.status == 200, answer.body
        result = answer.json()
        if wait:
            self.wait_status(result["backend_id"], "ready")
        return result

    def status(self, backend):
        return request("GET", f"{self.api}/pub/b/{backend}/status").json()

    def wait_status(self, backend, wanted, seconds=20):
        def reached():
            entry = self.status(backend)
            if entry["status"] == "terminated" and wanted != "terminated":
                raise AssertionError(f"backend ended: {entry}\n{self.log_text()[-3000:]}")
            return entry if entry["status"] == wanted else None
        return wait_until(reached, seconds, f"backend {wanted}")

    def stop(self, with_signal=signal.SIGINT):
        if self.process and self.process.poll() is None:
            self.process.send_signal(with_signal)
            self.process.wait(timeout=40)
        if self.process:
            self.log.close()
        return self.process.returncode if self.process else None

    @property
    def instance(self):
        return inventory.instance_id(self.data)

    def leftovers(self):
        """What of this instance is still on the host: must be empty after a stop."""
        return self.leaks.problems()


async def echo_once(socket_, text):
    await socket_.send(text)
    return await asyncio.wait_for(socket_.recv(), 10)
