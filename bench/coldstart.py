#!/usr/bin/python3
"""Cold start: from the connect call on a new key to the first byte of `/` through the proxy, one
after another and 16 at a time; beside `docker run` of the same image until it answers, and
`runc run` of the same root until it exits, in the same run.

usage: bench/coldstart.py [COUNT]      (default 200; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/coldstart.json keeps it."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from serve import EXAMPLES, Serve, request  # noqa: E402

AT_ONCE = 16
DOCKER_COUNT, RUNC_COUNT = 20, 100
local = threading.local()


def cold_start(plane, key):
    """Milliseconds of one cold start. The API connection is kept, as an app server keeps it."""
    if not hasattr(local, "api"):
        local.api = http.client.HTTPConnection(plane.listen, timeout=60)
        local.api.connect()
    body = json.dumps({"key": {"name": key}, "spawn_config": {
        "executable": {"image": "echo"}, "cluster": plane.cluster}})
    begin = time.perf_counter()
    local.api.request("POST", "/ctrl/connect", body, {"content-type": "application/json"})
    connection = json.loads(local.api.getresponse().read())
    url = urllib.parse.urlsplit(connection["url"])
    proxy = http.client.HTTPConnection(plane.proxy, timeout=60)
    proxy.request("GET", url.path, headers={"host": url.netloc})
    answer = proxy.getresponse()
    end = time.perf_counter()
    assert answer.status == 200, answer.status
    answer.read()
    proxy.close()
    plane.made.append(connection["backend_id"])
    return (end - begin) * 1000


def end_all(plane):
    """The backends so far are ended, and their places cleaned, before the next measurement."""
    for backend in plane.made:
        request("POST", f"{plane.api}/ctrl/b/{backend}/hard-terminate")
    for backend in plane.made:
        plane.wait_status(backend, "terminated", 60)
    plane.made.clear()


def measure_plane(count):
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as directory:
        plane = Serve(directory)
        plane.made = []
        plane.import_image("echo", EXAMPLES / "echo.tar")
        plane.start()
        try:
            for i in range(5):  # not counted
                cold_start(plane, f"warm-{i}")
            end_all(plane)
            one_by_one = [cold_start(plane, f"one-{i}") for i in range(count)]
            end_all(plane)
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                at_once = list(pool.map(lambda i: cold_start(plane, f"many-{i}"), range(count)))
            end_all(plane)
        finally:
            plane.stop()
    return one_by_one, at_once


def measure_peers():
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    output = subprocess.run(
        ["unshare", "--net", "--mount", str(ROOT / "bench" / "coldstart_peers.py"),
         str(EXAMPLES / "echo.tar"), str(DOCKER_COUNT), str(RUNC_COUNT)],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def summary(times):
    ordered = sorted(times)
    return {"count": len(times), "p50_ms": round(statistics.median(times), 3),
            "p99_ms": round(ordered[min(len(times) - 1, int(len(times) * 0.99))], 3)}


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    one_by_one, at_once = measure_plane(count)
    peers = measure_peers()
    result = {"benchmark": "coldstart", "plane": summary(one_by_one),
              f"plane_{AT_ONCE}_at_once": summary(at_once), "docker_run": summary(peers["docker"]),
              "runc_run": summary(peers["runc"]), "cores": os.cpu_count(),
              "kernel": platform.release()}
    for peer in ("docker_run", "runc_run"):
        result[f"{peer}_to_plane_p50"] = round(
            result[peer]["p50_ms"] / result["plane"]["p50_ms"], 1)
    for name in ("plane", f"plane_{AT_ONCE}_at_once", "docker_run", "runc_run"):
        side = result[name]
        print(f"{name:20} {side['count']:4} starts: p50 {side['p50_ms']:9.3f} ms, "
              f"p99 {side['p99_ms']:9.3f} ms")
    line = json.dumps(result)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "coldstart.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
