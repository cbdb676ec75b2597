#!/usr/bin/env python3
"""A soak: clients use a `plane serve` in every way while its processes are killed at random, and
now and then all is still and the leak check must find nothing. Random numbers come from the seed;
what the machine makes of their timing does not.
usage: soak.py SECONDS SEED     (environment: PLANE_BUILD_DIR)"""

import asyncio
import collections
import concurrent.futures
import contextlib
import http.client
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import urllib.error

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import websockets  # noqa: E402
import websockets.exceptions  # noqa: E402

import leaks  # noqa: E402
from faults import FaultyServe, kill  # noqa: E402
from serve import request, wait_until  # noqa: E402

KEYS = 16
CLIENTS = 4
ROUND_SECONDS = 40        # of faults, then everything is looked at
PAUSE_SECONDS = (0.1, 2.5)  # between two faults
RETRY_SECONDS = 0.05      # of a client that found nobody
POOL_IDLE_SECONDS = 20    # after which the proxy has closed what it kept for the next request
FAULTS = ["controller"] * 4 + ["drone"] * 5 + ["proxy"] * 4 + ["shim"] * 4 + ["serve"] * 2
BROKEN = (OSError, http.client.HTTPException, urllib.error.URLError, TimeoutError,
          asyncio.TimeoutError, websockets.exceptions.WebSocketException)


class Count:
    """Cases that held and that did not; each case is one invariant looked at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = 0
        self.done = collections.Counter()

    def check(self, is_right, what):
        with self.lock:
            self.passed += bool(is_right)
            self.failed += not is_right
            if not is_right:
                print(f"FAILED: {what}", flush=True)

    def note(self, what):
        with self.lock:
            self.done[what] += 1


class Key:
    """What the clients know about one key. Guarded by its lock."""

    def __init__(self, number):
        self.name = f"key-{number}"
        self.lock = threading.Lock()
        self.backend = None  # ready when last looked at, and not ended by anybody since
        self.connection = None
        self.ended = set()  # backends of it that somebody ended, or tried to

    def give_up(self):
        """Its backend is going to end: until it has, a connect may still lead to it."""
        if self.connection:
            self.ended.add(self.connection["backend_id"])
        self.backend = None


class Soak:
    def __init__(self, serve, seed):
        self.serve, self.seed = serve, seed
        self.count = Count()
        self.keys = [Key(number) for number in range(KEYS)]
        self.is_paused, self.is_over = threading.Event(), threading.Event()
        self.busy = threading.Semaphore(CLIENTS)

    # ---- clients ----

    def client(self, number):
        dice = random.Random(f"{self.seed} client {number}")
        while not self.is_over.is_set():
            if self.is_paused.is_set():
                time.sleep(0.05)
                continue
            with self.busy:
                if self.is_paused.is_set():
                    continue
                try:
                    self.act(dice)
                except BROKEN as error:  # somebody was killed under it
                    self.count.note(f"broken: {type(error).__name__}")
                    time.sleep(RETRY_SECONDS)
                except Exception:
                    self.count.check(False, traceback.format_exc())

    def act(self, dice):
        key = dice.choice(self.keys)
        action = dice.choice([self.use] * 5 + [self.talk] * 3 + [self.crowd, self.end, self.end,
                                                                 self.misbehave, self.start_badly])
        if key.lock.acquire(blocking=False):
            with contextlib.closing(contextlib.ExitStack()) as stack:
                stack.callback(key.lock.release)
                self.count.note(action.__name__)
                action(key, dice)

    def connect(self, key, **spawn):
        """A connection to the key's backend, which must be the one that ran, or None."""
        answer = self.serve.ask(key.name, **spawn)
        if answer.status != 200:
            kind = answer.json()["kind"]
            self.count.note(f"connect answered {answer.status} {kind}")
            self.count.check(kind in ("NoDroneAvailable", "KeyHeldUnhealthy", "KeyHeld"),
                             f"connect: {answer.status} {answer.body}")
            return None
        connection = answer.json()
        if key.backend:
            self.count.check(connection["backend_id"] == key.backend,
                             f"lost: {key.name} had {key.backend}, "
                             f"{self.story(key.backend)}; got {connection['backend_id']}")
            if connection["backend_id"] != key.backend:
                key.backend = None
        return connection

    def story(self, backend):
        with contextlib.suppress(*BROKEN):
            return self.serve.status(backend)
        return "nobody can say"

    def use(self, key, dice):
        connection = self.connect(key, **dice.choice([{}, {}, {"max_idle_seconds": 600}]))
        if connection is None:
            return
        answer = request("GET", connection["url"], timeout=20)
        self.count.note(f"request answered {answer.status}")
        if answer.status == 200:
            self.count.check(answer.body.decode() == connection["backend_id"],
                             f"{key.name}: answered by {answer.body}, not {connection}")
            key.connection = connection
            if connection["backend_id"] not in key.ended:
                key.backend = connection["backend_id"]

    def talk(self, key, dice):
        connection = self.connect(key)
        if connection is None:
            return
        rounds, size = dice.randint(1, 8), dice.choice([1, 100, 70000])

        async def echo():
            url = connection["url"].replace("http:", "ws:") + "ws"
            async with websockets.connect(url, open_timeout=20, close_timeout=5) as socket:
                for number in range(rounds):
                    text = f"{number}" * size
                    await socket.send(text)
                    got = await asyncio.wait_for(socket.recv(), 20)
                    self.count.check(got == text, f"{key.name}: {len(got)} other bytes came back")
        asyncio.run(echo())

    def crowd(self, key, dice):
        """Many connects at once: one backend."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            made = [future.result() for future in
                    [pool.submit(self.safely_ask, key) for _ in range(8)]]
        backends = {connection["backend_id"] for connection in made if connection}
        backends -= key.ended  # one may end in the middle of it
        self.count.check(len(backends) <= 1, f"{key.name}: a crowd got {backends}")

    def safely_ask(self, key):
        with contextlib.suppress(*BROKEN):
            answer = self.serve.ask(key.name)
            return answer.json() if answer.status == 200 else None
        return None

    def end(self, key, dice):
        if not key.connection:
            return
        key.give_up()
        self.serve.end(key.connection["backend_id"], dice.choice(["soft", "hard"]))

    def misbehave(self, key, dice):
        """Asks the backend to end or to do harm."""
        connection, how = key.connection, dice.choice(["exit?code=5", "crash", "print?mb=40"])
        if connection:
            if not how.startswith("print"):
                key.give_up()
            request("GET", connection["url"] + how, timeout=20)

    def start_badly(self, key, dice):
        """A new backend that is bad from the start, unless one runs."""
        how = dice.choice([{"hostile": "exit"}, {"hostile": "crash"}, {"hostile": "silent"},
                           {"hostile": "print"}, {"hostile": "deaf"}, {"image": "nosuch"}])
        was = key.backend
        connection = self.connect(key, **how)
        if connection and not was and connection["spawned"] and how != {"hostile": "print"}:
            key.ended.add(connection["backend_id"])
            self.serve.end(connection["backend_id"], dice.choice(["soft", "hard"]))

    # ---- faults ----

    def fault(self, dice):
        role = dice.choice(FAULTS)
        self.count.note(f"kill -9 {role}")
        if role == "serve":
            self.kill_serve(dice)
        elif role == "shim":
            self.kill_shim(dice)
        else:
            kill(self.serve.child(role))

    def kill_serve(self, dice):
        self.serve.process.kill()
        self.serve.process.wait()
        time.sleep(dice.choice([0, 0, 0.2, 2]))
        self.serve.start()

    def kill_shim(self, dice):
        key = dice.choice(self.keys)
        if not key.lock.acquire(blocking=False):
            return
        try:
            if key.backend:
                backend = key.backend
                key.give_up()
                kill(self.serve.shim_of(backend))
        finally:
            key.lock.release()

    # ---- the run ----

    def look(self, seconds=leaks.SETTLE_SECONDS):
        """All is still: nothing may be left over, and what ran must still run."""
        wait_until(self.serve.is_ready, 60, "the roles back")
        deadline = time.monotonic() + seconds
        wrong = self.serve.leaks.problems()
        while wrong and time.monotonic() < deadline:
            time.sleep(0.2)
            wrong = self.serve.leaks.problems()
        for kind in leaks.RUNNING:
            self.count.check(kind not in dict(wrong), f"{kind}: "
                             f"{[text for name, text in wrong if name == kind]}")
        for key in self.keys:
            if key.backend:
                connection = self.connect(key)
                if connection:
                    answer = request("GET", connection["url"])
                    self.count.check(answer.status == 200, f"{key.name}: {answer.status} "
                                     f"{answer.body} {self.story(connection['backend_id'])}")

    def pause(self):
        self.is_paused.set()
        for _ in range(CLIENTS):
            self.busy.acquire()

    def go_on(self):
        self.is_paused.clear()
        self.busy.release(CLIENTS)

    def run(self, seconds):
        began = time.monotonic()
        clients = [threading.Thread(target=self.client, args=(number,), daemon=True)
                   for number in range(CLIENTS)]
        dice = random.Random(f"{self.seed} faults")
        for client in clients:
            client.start()
        while time.monotonic() - began < seconds:
            until = min(time.monotonic() + ROUND_SECONDS, began + seconds)
            while time.monotonic() < until:
                time.sleep(dice.uniform(*PAUSE_SECONDS))
                self.fault(dice)
            self.pause()
            self.look()
            print(f"{time.monotonic() - began:.0f} s: {self.count.passed} passed, "
                  f"{self.count.failed} failed", flush=True)
            self.go_on()
        self.is_over.set()
        for client in clients:
            client.join()

    def finish(self):
        """The last look: all backends end, the descriptors go back, the stop leaves nothing."""
        wait_until(self.serve.is_ready, 60, "the roles back")
        for key in self.keys:
            key.give_up()
        self.serve.end_all()
        proxy = self.serve.child("proxy")
        wait_until(lambda: leaks.inventory.connections_to(proxy, self.serve.instance) == 0,
                   POOL_IDLE_SECONDS, "the proxy lets go of ended backends")
        self.look()
        self.serve.stop(signal.SIGINT)
        left = self.serve.leftovers()
        self.count.check(not left, f"after the stop: {left}")
        return left


def main():
    seconds, seed = int(sys.argv[1]), int(sys.argv[2])
    directory = pathlib.Path(tempfile.mkdtemp(prefix="plane-soak-"))
    serve = FaultyServe(directory)
    print(f"soak of {seconds} s with seed {seed} in {directory}", flush=True)
    serve.start()
    serve.leaks.take_baseline()
    soak = Soak(serve, seed)
    left = ["the soak did not come to its end"]
    try:
        soak.run(seconds)
        left = soak.finish()
    except Exception:
        soak.count.check(False, traceback.format_exc())
        with contextlib.suppress(Exception):
            serve.stop(signal.SIGINT)
    sanitizer = [line for line in serve.log_text().splitlines()
                 if "ERROR: AddressSanitizer" in line or "runtime error:" in line
                 or "ERROR: LeakSanitizer" in line]
    soak.count.check(not sanitizer, f"sanitizers: {sanitizer}")
    for what, times in sorted(soak.count.done.items()):
        print(f"  {times:6} {what}")
    print(f"leak check: {left or 'nothing found'}; log: {serve.log_path}")
    print(f"{soak.count.passed} passed, {soak.count.failed} failed")
    return 0 if soak.count.failed == 0 and soak.count.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
