#!/usr/bin/python3
"""What 500 running echo backends cost beyond themselves: memory, the time to start them all, and the
CPU of all Plane processes together while they are idle; beside containers of dockerd from the same
image, in the same run.

Memory is counted twice, as the difference between no backend and all of them:
- processes: the proportional share (PSS) of each backend's shim and init, and the growth of serve,
  controller, drone and proxy. Pages that processes share are counted once.
- machine: the fall of MemAvailable without the PSS of the backends' own programs. It contains the
  processes and what the kernel keeps for them and their sandboxes: page tables, stacks, namespaces,
  cgroups, mounts, sockets, links. Files in the page cache are not counted.
For docker: dockerd, containerd, containerd-shim and docker-proxy. Every backend and container has
answered one request.

usage: bench/density.py [BACKENDS [SECONDS]]   (default 500 and 60; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/density.json keeps it."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from processes import (descendants, idle, matching, memory, memory_per_backend,  # noqa: E402
                       wait_for_kernel)
from serve import EXAMPLES, Serve, request, wait_until  # noqa: E402

AT_ONCE = 16
CONTAINERS, DOCKER_SECONDS = 30, 20
ROLES = ("controller", "drone", "proxy")


def groups_of(plane):
    """Process ids: each role, shims with inits (also the parked ones), the backends' programs."""
    groups = {"serve": [plane.process.pid], **{role: [plane.child(role)] for role in ROLES}}
    below = descendants(groups["drone"])
    groups["shim"] = matching(lambda words: words[0] == b"plane-shim", below)
    groups["own"] = sorted(set(below) - set(groups["shim"]))
    return groups


def start(plane, key):
    """One backend, until it has answered a request through the proxy, which holds it until then."""
    answer = request("POST", f"{plane.api}/ctrl/connect", {
        "key": {"name": key},
        "spawn_config": {"executable": {"image": "echo"}, "cluster": plane.cluster}})
    assert answer.status == 200, answer.body
    url = urllib.parse.urlsplit(answer.json()["url"])
    proxy = http.client.HTTPConnection(plane.proxy, timeout=60)
    proxy.request("GET", url.path, headers={"host": url.netloc})
    assert proxy.getresponse().status == 200
    proxy.close()


def settled_groups(plane, backends):
    """The groups, once all backends run and the pool of parked sandboxes stands still."""
    seen = []

    def stands_still():
        seen.append(groups_of(plane))
        time.sleep(0.5)
        return (len(seen) > 1 and len(seen[-1]["own"]) == backends
                and seen[-1]["shim"] == seen[-2]["shim"])
    wait_until(stands_still, 60, "all run and the pool is full")
    return seen[-1]


def measure_plane(backends, seconds):
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as directory:
        plane = Serve(directory)
        plane.import_image("echo", EXAMPLES / "echo.tar")
        plane.start()
        try:
            start(plane, "warm")
            wait_for_kernel()
            before = memory(settled_groups(plane, 1))
            begin = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda number: start(plane, f"dense-{number}"), range(backends)))
            start_seconds = time.perf_counter() - begin
            groups = settled_groups(plane, backends + 1)
            result = {"count": backends, "start_all_seconds": round(start_seconds, 2),
                      **memory_per_backend(before, memory(groups), backends, "own")}
            result |= idle({name: pids for name, pids in groups.items() if name != "own"}, seconds)
        finally:
            plane.stop()
    return result


def measure_docker():
    output = subprocess.run(
        ["unshare", "--net", "--mount", str(ROOT / "bench" / "density_peers.py"),
         str(EXAMPLES / "echo.tar"), str(CONTAINERS), str(DOCKER_SECONDS)],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def show(name, side):
    print(f"{name}: {side['count']} started in {side['start_all_seconds']} s; for each "
          f"{side['processes_kib_per_backend']} KiB in processes, "
          f"{side['machine_kib_per_backend']} KiB of the machine; idle "
          f"{side['idle_cpu_percent']}% of a core, {side['idle_wakeups_per_second']} wakeups/s, "
          f"{side['idle_written_bytes_per_second']} bytes/s written")
    print(f"    processes by kind, KiB for each: {side['pss_kib_by_group']}")
    print(f"    kernel by kind, KiB for each: {side['kernel_kib_by_kind']}")
    print(f"    idle CPU by kind, % of a core: {side['idle_cpu_percent_by_group']}")


def main():
    backends = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    plane, docker = measure_plane(backends, seconds), measure_docker()
    show("plane", plane)
    show("docker", docker)
    result = {"benchmark": "density", "plane": plane, "docker": docker, "cores": os.cpu_count(),
              "kernel": platform.release()}
    for kind in ("processes", "machine"):
        result[f"docker_to_plane_{kind}_kib"] = round(
            docker[f"{kind}_kib_per_backend"] / plane[f"{kind}_kib_per_backend"], 1)
    result["docker_to_plane_idle_cpu_per_backend"] = round(
        docker["idle_cpu_percent"] / docker["count"]
        / (plane["idle_cpu_percent"] / plane["count"]), 1)
    result["docker_to_plane_start_per_backend"] = round(
        docker["start_all_seconds"] / docker["count"]
        / (plane["start_all_seconds"] / plane["count"]), 1)
    for name in [n for n in result if n.startswith("docker_to_")]:
        print(f"{name}: {result[name]}")
    line = json.dumps(result)
    (ROOT / "bench" / "results" / "density.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
