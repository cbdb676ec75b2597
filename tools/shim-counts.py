#!/usr/bin/python3
"""Takes apart what tests/coverage/shim_counts.c wrote, and merges it to a .gcda file beside each
.gcno file of the shim. usage: shim-counts.py DIRECTORY"""

import collections
import pathlib
import struct
import subprocess
import sys
import tempfile


def records(data):
    used = min(struct.unpack_from("=I", data)[0], len(data) - 4)
    at = 4
    while at < 4 + used:
        length = struct.unpack_from("=I", data, at)[0]
        name, _, counts = data[at + 4:at + 4 + length].partition(b"\0")
        if not counts:
            return  # the process was killed while it wrote
        yield name.decode(), counts
        at += 4 + length


def merge(first, second, directory):
    """The path of a directory with the counts of two others."""
    result = tempfile.mkdtemp(dir=directory)
    subprocess.run(["gcov-tool", "merge", first, second, "-o", result], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return result


def main():
    counts = collections.defaultdict(set)
    for page in pathlib.Path(sys.argv[1]).iterdir():
        for name, data in records(page.read_bytes()):
            counts[name].add(data)
    with tempfile.TemporaryDirectory() as directory:
        for name, dumps in counts.items():
            parts = []
            for data in dumps:
                parts.append(tempfile.mkdtemp(dir=directory))
                pathlib.Path(parts[-1], "counts.gcda").write_bytes(data)
            while len(parts) > 1:
                parts.append(merge(parts.pop(0), parts.pop(0), directory))
            pathlib.Path(name).write_bytes(pathlib.Path(parts[0], "counts.gcda").read_bytes())


main()
