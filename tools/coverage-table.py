#!/usr/bin/python3
"""Prints the summary that gcovr wrote: lines of each folder, the least covered files, the total."""

import collections
import json
import sys

files = json.load(open(sys.argv[1]))["files"]
folders = collections.defaultdict(lambda: [0, 0])
for file in files:
    for folder in (file["filename"].rsplit("/", 1)[0], "total"):
        folders[folder][0] += file["line_covered"]
        folders[folder][1] += file["line_total"]


def line(name, covered, total):
    return f"{100 * covered / max(total, 1):6.1f}%  {covered:6} of {total:6}  {name}"


print("least covered files")
for file in sorted(files, key=lambda f: f["line_covered"] - f["line_total"])[:20]:
    print(line(file["filename"], file["line_covered"], file["line_total"]))
print("folders")
for name in sorted(folders, key=lambda name: (name == "total", name)):
    print(line(name, *folders[name]))
