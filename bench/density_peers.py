#!/usr/bin/python3
"""What containers of dockerd cost, for bench/density.py. Run in a network namespace of its own
(unshare --net), so that dockerd changes nothing of the host's.

usage: density_peers.py IMAGE_TAR COUNT SECONDS     the last line is one JSON object"""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from coldstart_peers import Docker, answers
from processes import descendants, everyone, idle, matching, memory, memory_per_backend, wait_for_kernel

AT_ONCE = 4  # more at once are not started faster on two cores


def groups_of(docker, directory):
    """Process ids of dockerd with containerd and docker-proxy, of the shims, and of the containers."""
    socket = str(directory).encode()
    groups = {"dockerd": [docker.daemon.pid, *descendants([docker.daemon.pid])]}
    groups["shim"] = matching(lambda words: words[0].endswith(b"containerd-shim-runc-v2")
                              and any(socket in word for word in words), everyone())
    groups["own"] = descendants(groups["shim"])
    return groups


def start(docker, number):
    port = 20000 + number
    docker.run("run", "-d", "--name", f"dense-{number}", "-e", "PORT=8080", "-p", f"{port}:8080",
               "echo:latest")
    while not answers(port):
        pass


def main():
    image, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="plane-bench-peers-"))
    docker = Docker(directory)
    try:
        docker.run("load", "-i", image)
        start(docker, 0)  # what is made once is made now
        wait_for_kernel()
        before = memory(groups_of(docker, directory))
        begin = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda number: start(docker, number), range(1, count + 1)))
        start_seconds = time.perf_counter() - begin
        groups = groups_of(docker, directory)
        result = {"count": count, "start_all_seconds": round(start_seconds, 2),
                  **memory_per_backend(before, memory(groups), count, "own")}
        result |= idle({name: pids for name, pids in groups.items() if name != "own"}, seconds)
        docker.run("rm", "-f", *(f"dense-{number}" for number in range(count + 1)))
    finally:
        docker.stop()
    shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
