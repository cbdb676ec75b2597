#!/usr/bin/python3
"""Cold start: from the connect call on a new key to the first byte of `/` through the proxy, one
after another and 16 at a time; beside `docker run` of the same image until it answers, and
`runc run` of the same root until it exits, in the same run and as many at a time.

usage: bench/coldstart.py [COUNT]      (default 200; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/coldstart.json keeps it."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from serve import BUILD, EXAMPLES, Serve, request  # noqa: E402

CLIENT = BUILD / "bench" / "bench-coldstart-client"
AT_ONCE = 16
DOCKER_COUNT, RUNC_COUNT = 32, 100


def cold_starts(plane, prefix, count, at_once):
    """Milliseconds of each start, in the order in which they ended."""
    output = subprocess.run(
        [CLIENT, plane.listen.split(":")[1], plane.proxy.split(":")[1], plane.cluster, prefix,
         str(count), str(at_once)], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    plane.made += [words[2] for words in lines]
    return [float(words[1]) for words in lines]


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
            cold_starts(plane, "warm", 5, 1)  # not counted
            end_all(plane)
            one_by_one = cold_starts(plane, "one", count, 1)
            end_all(plane)
            at_once = cold_starts(plane, "many", count, AT_ONCE)
            end_all(plane)
        finally:
            plane.stop()
    return one_by_one, at_once


def measure_peers():
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    output = subprocess.run(
        ["unshare", "--net", "--mount", str(ROOT / "bench" / "coldstart_peers.py"),
         str(EXAMPLES / "echo.tar"), str(DOCKER_COUNT), str(RUNC_COUNT),
         str(AT_ONCE)],
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
    sides = {"plane": one_by_one, "docker_run": peers["docker"], "runc_run": peers["runc"],
             f"plane_{AT_ONCE}_at_once": at_once,
             f"docker_run_{AT_ONCE}_at_once": peers["docker_at_once"],
             f"runc_run_{AT_ONCE}_at_once": peers["runc_at_once"]}
    result = {"benchmark": "coldstart", **{name: summary(times) for name, times in sides.items()},
              "cores": os.cpu_count(), "kernel": platform.release()}
    for ending in ("", f"_{AT_ONCE}_at_once"):
        for peer in ("docker_run", "runc_run"):
            result[f"{peer}_to_plane{ending}_p50"] = round(
                result[peer + ending]["p50_ms"] / result["plane" + ending]["p50_ms"], 1)
    for name in sides:
        side = result[name]
        print(f"{name:22} {side['count']:4} starts: p50 {side['p50_ms']:9.3f} ms, "
              f"p99 {side['p99_ms']:9.3f} ms")
    for name, ratio in result.items():
        if name.endswith("_p50"):
            print(f"{name}: {ratio}")
    line = json.dumps(result)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "coldstart.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
