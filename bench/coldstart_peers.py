#!/usr/bin/python3
"""Cold starts of the peers, for bench/coldstart.py: `docker run` of the image with a published port
until it answers, and `runc run` of the same root until its program exits. Run in a network
namespace of its own (unshare --net), so that dockerd changes nothing of the host's.

usage: coldstart_peers.py IMAGE_TAR DOCKER_COUNT RUNC_COUNT AT_ONCE
Prints {"docker": [ms], "runc": [ms]}, one after another, and the same with "_at_once"."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Docker:
    def __init__(self, directory):
        self.socket = f"unix://{directory}/docker.sock"
        self.log = open(directory / "dockerd.log", "wb")
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {**os.environ, "PATH": path, "DOCKER_HOST": self.socket}
        self.daemon = subprocess.Popen(
            ["dockerd", "--data-root", directory / "docker", "--exec-root", directory / "exec",
             "--pidfile", directory / "docker.pid", "--host", self.socket],
            env=self.environment, stdout=self.log, stderr=self.log)
        wait_for(lambda: self.run("info", check=False).returncode == 0, 60, "dockerd")

    def run(self, *words, check=True):
        return subprocess.run(["/usr/bin/docker", *words], env=self.environment, check=check, **QUIET)

    def cold_start(self, number):
        port = 20000 + number
        begin = time.perf_counter()
        self.run("run", "-d", "--name", f"cold-{number}", "-e", "PORT=8080", "-p", f"{port}:8080",
                 "echo:latest")
        while not answers(port):
            pass
        elapsed = time.perf_counter() - begin
        self.run("rm", "-f", f"cold-{number}")
        return elapsed * 1000

    def stop(self):
        self.daemon.terminate()
        self.daemon.wait(timeout=60)
        self.log.close()


def make_bundle(image, directory):
    """An OCI bundle of the image's one layer, whose program ends at once."""
    (directory / "rootfs").mkdir(parents=True)
    with tarfile.open(image) as outer, tarfile.open(fileobj=outer.extractfile("layer.tar")) as layer:
        layer.extractall(directory / "rootfs")
    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["process"].update(terminal=False, args=["/echo"], env=["PORT=none"])
    path.write_text(json.dumps(config))


def run_runc(directory, number):
    begin = time.perf_counter()
    subprocess.run(["runc", "--root", directory / "state", "run", f"cold-{os.getpid()}-{number}"],
                   cwd=directory, stdin=subprocess.DEVNULL, **QUIET)
    return (time.perf_counter() - begin) * 1000


def measure(start, count, at_once):
    """Times of starts 1..count one after another, and of as many more, some at once."""
    one_by_one = [start(i) for i in range(1, count + 1)]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return one_by_one, list(pool.map(start, range(count + 1, 2 * count + 1)))


def main():
    image, docker_count, runc_count, at_once = sys.argv[1], *map(int, sys.argv[2:5])
    times = {}
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="plane-bench-peers-"))
    docker = Docker(directory)
    try:
        docker.run("load", "-i", image)
        docker.cold_start(0)  # the first one is not counted
        times["docker"], times["docker_at_once"] = measure(
            docker.cold_start, docker_count, at_once)
    finally:
        docker.stop()
    bundle = directory / "bundle"
    make_bundle(image, bundle)
    run_runc(bundle, 0)
    times["runc"], times["runc_at_once"] = measure(
        lambda number: run_runc(bundle, number), runc_count, at_once)
    shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
