"""WebSockets that clients of a cluster keep open, and use all the time."""

import asyncio
import threading
import time

import websockets

BEAT_SECONDS = 0.05
ANSWER_SECONDS = 60  # without an answer for so long it counts as broken


class Tunnel:
    """An open WebSocket to a backend, through a proxy, from the machine of the clients: sends,
    awaits the echo and goes on. It never connects again: once broken, it is."""

    def __init__(self, host, url, proxy_address, proxy_port):
        self.url, self.proxy_address, self.proxy_port = url, proxy_address, proxy_port
        self.count, self.broken = 0, None
        self.longest_s = 0.0  # that an echo took
        self.is_over = threading.Event()
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.live, args=(host,), daemon=True)
        self.thread.start()
        self.beat()

    def live(self, host):
        try:
            with host.inside():
                asyncio.run(self.talk())
        except Exception as error:  # whatever it is, the socket did not survive
            with self.changed:
                self.broken = f"{type(error).__name__}: {error}"
                self.changed.notify_all()

    async def talk(self):
        async with websockets.connect(self.url, host=self.proxy_address, port=self.proxy_port,
                                      ping_interval=None, open_timeout=ANSWER_SECONDS) as wire:
            while not self.is_over.is_set():
                began = time.monotonic()
                text = f"{self.count + 1}"
                await wire.send(text)
                answer = await asyncio.wait_for(wire.recv(), ANSWER_SECONDS)
                if answer != text:
                    raise AssertionError(f"sent {text}, got {answer}")
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                with self.changed:
                    self.count += 1
                    self.changed.notify_all()
                await asyncio.sleep(BEAT_SECONDS)

    def beat(self):
        """A message that is sent after this was called comes back; fails when the socket broke."""
        with self.changed:
            wanted = self.count + 2  # one may be on its way already
            self.changed.wait_for(lambda: self.count >= wanted or self.broken, ANSWER_SECONDS)
            assert not self.broken, f"WebSocket {self.url} broke: {self.broken}"
            assert self.count >= wanted, f"WebSocket {self.url} does not answer"

    def wait_broken(self, seconds):
        with self.changed:
            self.changed.wait_for(lambda: self.broken, seconds)
            assert self.broken, f"WebSocket {self.url} lives on"

    def close(self):
        self.is_over.set()
        self.thread.join()
