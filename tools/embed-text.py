#!/usr/bin/env python3
"""Writes a text file as a C string literal. usage: embed-text.py INPUT OUTPUT NAME"""
import sys

source, target, name = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    lines = file.read().splitlines()
quoted = [line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]
with open(target, "w", encoding="utf-8") as file:
    file.write(f"#define {name} \\\n")
    file.write(" \\\n".join(f'\t"{line}\\n"' for line in quoted) + "\n")
