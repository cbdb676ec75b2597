"""The examples by themselves: started with PORT, without Plane."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import websockets

from serve import EXAMPLES, free_port, request, wait_until

pytestmark = pytest.mark.timeout(60)


@contextlib.contextmanager
def running(name):
    port = free_port()
    process = subprocess.Popen([EXAMPLES / name], env={"PORT": str(port), "MINE": "yes"},
                               stdout=subprocess.DEVNULL)

    def listens():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
    wait_until(listens, 10, f"{name} listening")
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_echo_tells_what_it_was_asked():
    with running("echo") as (_, port):
        answer = request("POST", f"http://127.0.0.1:{port}/a/b?c=d", {"x": 1},
                         headers={"X-Mine": "kept"})
        seen = answer.json()
        assert seen["method"] == "POST" and seen["path"].startswith("/a/b")
        assert {k.lower(): v for k, v in seen["headers"].items()}["x-mine"] == "kept"
        assert seen["env"]["MINE"] == "yes"


def test_echo_misbehaves_as_asked():
    for path, status in [("/exit?code=7", 7), ("/crash", -11)]:
        with running("echo") as (process, port):
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
            assert process.wait(timeout=10) == status
    with running("echo") as (_, port):
        begin = time.monotonic()
        assert request("GET", f"http://127.0.0.1:{port}/slow?ms=300").status == 200
        assert time.monotonic() - begin >= 0.3
        assert request("GET", f"http://127.0.0.1:{port}/hog?mb=5").status == 200


def test_echo_echoes_messages():
    async def talk(port):
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws") as socket_:
            for message in ("hello", b"\x00\xff" * 50000, "ü" * 1000):
                await socket_.send(message)
                assert await socket_.recv() == message
    with running("echo") as (_, port):
        asyncio.run(talk(port))


@pytest.mark.parametrize("garbage", [
    b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /" + b"a" * 100000, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    os.urandom(5000)])
def test_garbage_does_not_end_them(garbage):
    for name in ("echo", "whiteboard"):
        with running(name) as (process, port):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
                wire.sendall(garbage)
                wire.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    while wire.recv(65536):
                        pass
            assert request("GET", f"http://127.0.0.1:{port}/").status == 200
            assert process.poll() is None


def test_two_at_one_whiteboard_see_each_other_and_late_ones_the_board():
    async def expect(ws, kind):
        while True:
            message = json.loads(await asyncio.wait_for(ws.recv(), 10))
            if message[0] == kind:
                return message

    async def story(port):
        url = f"ws://127.0.0.1:{port}/ws"
        async with websockets.connect(url) as one, websockets.connect(url) as two:
            await one.send(json.dumps(["line", 1, 2, 3, 4, 5, 6]))
            assert await expect(two, "line") == ["line", 1, 2, 3, 4, 5, 6]
            await two.send(json.dumps(["cursor", 70, 80]))
            assert (await expect(one, "cursor"))[2:] == [70, 80]
            for bad in ('["line",1]', '["line",1,2,3,4,5,999]', "nonsense", '["line",-1,2,3,4,5,6]'):
                await one.send(bad)
            await one.send(json.dumps(["cursor", 1, 1]))
            assert (await expect(two, "cursor"))[2:] == [1, 1]
            async with websockets.connect(url) as late:
                assert await expect(late, "lines") == ["lines", 1, 2, 3, 4, 5, 6]
                assert (await expect(late, "people"))[1] == 3
            await one.send(json.dumps(["clear"]))
            await expect(two, "clear")
            async with websockets.connect(url) as late:
                assert await expect(late, "lines") == ["lines"]
    with running("whiteboard") as (_, port):
        asyncio.run(story(port))
