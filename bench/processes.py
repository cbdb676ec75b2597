"""What groups of processes cost: memory, CPU, wakeups, bytes written. Read from /proc, by process id."""

import contextlib
import pathlib
import re
import time

PROC = pathlib.Path("/proc")
KERNEL_FIELDS = ("Slab", "KernelStack", "PageTables", "Percpu")


def everyone():
    return [int(entry.name) for entry in PROC.glob("[0-9]*")]


def matching(condition, pids):
    """Those of `pids` whose command line satisfies `condition(words)`."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended meanwhile
            if condition((PROC / str(pid) / "cmdline").read_bytes().split(b"\0")):
                found.append(pid)
    return sorted(found)


def descendants(pids):
    """Children of `pids`, and theirs, without `pids`."""
    parents = {}
    for pid in everyone():
        with contextlib.suppress(OSError):
            words = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
            parents.setdefault(int(words[1]), []).append(pid)
    found, left = set(), list(pids)
    while left:
        children = [pid for pid in parents.get(left.pop(), []) if pid not in found]
        found.update(children)
        left.extend(children)
    return sorted(found - set(pids))


def sum_of(pids, name, pattern):
    """The sum of the first number of each match in the file `name` of all `pids`."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = (PROC / str(pid) / name).read_text()
            total += sum(int(n) for n in re.findall(pattern, text, re.M))
    return total


def pss_kib(pids):
    return sum_of(pids, "smaps_rollup", r"^Pss:\s+(\d+)")


def tasks(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in (PROC / str(pid) / "task").iterdir():
                yield f"{pid}/task/{task.name}"


def machine_kib():
    text = (PROC / "meminfo").read_text()
    return {name: int(n) for name, n in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}


def wait_for_kernel(seconds=60):
    """Until the kernel has let go of what ended before: it removes namespaces in the background."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        now = machine_kib()
        if last and abs(now["Slab"] - last["Slab"]) + abs(now["MemFree"] - last["MemFree"]) < 1024:
            return
        last = now
        time.sleep(1)


def memory(groups):
    """PSS of each group of process ids, and the machine's own figures, in KiB."""
    machine = machine_kib()
    return {"groups": {name: pss_kib(pids) for name, pids in groups.items()},
            "available": machine["MemAvailable"],
            "kernel": {name: machine[name] for name in KERNEL_FIELDS}}


def memory_per_backend(before, after, count, own):
    """What each of `count` backends added to the groups and to the machine; `own` names the group of
    the backends' programs, which is taken off the machine's figure."""
    groups = {name: round((after["groups"][name] - before["groups"][name]) / count, 1)
              for name in after["groups"]}
    kernel = {name: round((after["kernel"][name] - before["kernel"][name]) / count, 1)
              for name in KERNEL_FIELDS}
    whole = (before["available"] - after["available"]) / count
    return {"processes_kib_per_backend": round(
                sum(kib for name, kib in groups.items() if name != own), 1),
            "machine_kib_per_backend": round(whole - groups[own], 1),
            "own_kib_per_backend": groups[own],
            "pss_kib_by_group": groups, "kernel_kib_by_kind": kernel}


def cpu_seconds(pids):
    return sum_of(tasks(pids), "schedstat", r"\A(\d+)") / 1e9


def usage(pids):
    """Seconds of CPU, wakeups and written bytes of the processes so far."""
    names = list(tasks(pids))
    return (cpu_seconds(pids),
            sum_of(names, "status", r"^voluntary_ctxt_switches:\s+(\d+)"),
            sum_of(pids, "io", r"^write_bytes: (\d+)"))


def idle(groups, seconds):
    """What the groups use in `seconds` without anything to do."""
    before = {name: usage(pids) for name, pids in groups.items()}
    begin = time.monotonic()
    time.sleep(seconds)  # the measured time itself
    elapsed = time.monotonic() - begin
    change = {name: [now - then for now, then in zip(usage(pids), before[name])]
              for name, pids in groups.items()}
    return {"idle_seconds": seconds,
            "idle_cpu_percent": round(
                sum(c[0] for c in change.values()) / elapsed * 100, 3),
            "idle_cpu_percent_by_group": {
                name: round(c[0] / elapsed * 100, 3) for name, c in change.items()},
            "idle_wakeups_per_second": round(sum(c[1] for c in change.values()) / elapsed, 1),
            "idle_written_bytes_per_second": round(
                sum(c[2] for c in change.values()) / elapsed)}
