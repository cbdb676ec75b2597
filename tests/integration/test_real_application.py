"""An application nobody here wrote: Python's websockets server from Debian, in a root file system
made with mmdebstrap, with its own client through the proxy."""

import asyncio
import os
import pathlib
import subprocess
import tempfile

import pytest
import websockets

from serve import PLANE, Serve

SERVER = """
import asyncio, os, signal
import websockets

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
    async with websockets.serve(echo, "0.0.0.0", int(os.environ["PORT"])):
        await stop

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def root_file_system():
    """A Debian root with python3-websockets; kept between runs, since making it takes a minute."""
    cache = pathlib.Path(os.environ.get("PLANE_TEST_CACHE", "/var/cache/plane-tests"))
    cache.mkdir(parents=True, exist_ok=True)
    tar = cache / "bookworm-python-websockets.tar"
    if not tar.exists():
        partial = tar.with_suffix(".partial.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=essential",
                        "--include=python3-minimal,python3-websockets",
                        "--aptopt=Acquire::Languages \"none\"", "bookworm", str(partial)],
                       check=True, timeout=600, stdin=subprocess.DEVNULL)
        partial.rename(tar)
    return tar


@pytest.mark.skipif(not PLANE.exists(), reason="plane is not built")
@pytest.mark.timeout(900)
def test_debians_websockets_server_runs_as_a_backend(root_file_system):
    with tempfile.TemporaryDirectory(prefix="plane-real-") as directory:
        plane = Serve(directory)
        plane.import_image("websockets", root_file_system, "--entrypoint", "/usr/bin/python3",
                           "--entrypoint", "-c", "--cmd", SERVER)
        plane.start()
        try:
            connection = plane.connect("app", image="websockets")

            async def talk():
                url = connection["url"].replace("http://", "ws://")
                async with websockets.connect(url) as socket:
                    await socket.send("from its own client")
                    assert await asyncio.wait_for(socket.recv(), 10) == "from its own client"
                    await socket.send(os.urandom(300000))
                    assert len(await asyncio.wait_for(socket.recv(), 10)) == 300000
            asyncio.run(talk())
        finally:
            plane.stop()
        assert plane.leftovers() == []
