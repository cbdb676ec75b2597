#!/usr/bin/python3
"""Cold start: from the connect call on a new key to the first byte of `/` through the proxy.

usage: bench/coldstart.py [COUNT]      (default 100; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/coldstart.json keeps it."""

import http.client
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from serve import EXAMPLES, Serve  # noqa: E402


def cold_start(plane, number):
    """Milliseconds of one cold start. The API connection is kept, as an app server keeps it."""
    body = json.dumps({"key": {"name": f"cold-{number}"}, "spawn_config": {
        "executable": {"image": "echo"}, "cluster": plane.cluster}})
    begin = time.perf_counter()
    plane.http.request("POST", "/ctrl/connect", body, {"content-type": "application/json"})
    connection = json.loads(plane.http.getresponse().read())
    url = urllib.parse.urlsplit(connection["url"])
    proxy = http.client.HTTPConnection(url.netloc, timeout=30)
    proxy.request("GET", url.path)
    answer = proxy.getresponse()
    end = time.perf_counter()
    assert answer.status == 200, answer.status
    answer.read()
    proxy.close()
    return (end - begin) * 1000


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as directory:
        plane = Serve(directory)
        plane.import_image("echo", EXAMPLES / "echo.tar")
        plane.start()
        try:
            plane.http = http.client.HTTPConnection(plane.listen, timeout=30)
            times = [cold_start(plane, number) for number in range(count)]
        finally:
            plane.stop()
    result = {"benchmark": "coldstart", "count": count,
              "p50_ms": round(statistics.median(times), 3),
              "p99_ms": round(percentile(times, 0.99), 3),
              "min_ms": round(min(times), 3), "max_ms": round(max(times), 3),
              "cores": os.cpu_count(), "kernel": platform.release()}
    print(f"{count} cold starts: p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms")
    line = json.dumps(result)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "coldstart.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
