#!/usr/bin/env python3
"""Sizes that must hold: sizes.py BINARY [ASSETS]. The binary is stripped and below 30 MiB, its assets below 2 MiB."""

import os
import sys

MOST = 30 * 2**20
MOST_ASSETS = 2 * 2**20

binary = sys.argv[1]
size = os.path.getsize(binary)
print(f"binary: {size / 2**20:.1f} MiB of at most {MOST / 2**20:.0f}")
failed = size >= MOST
with open(binary, "rb") as file:
    is_stripped = b"\0.symtab\0" not in file.read()
print("stripped" if is_stripped else "NOT stripped")
failed |= not is_stripped
if len(sys.argv) > 2 and os.path.isdir(sys.argv[2]):
    total = 0
    for folder, _, names in os.walk(sys.argv[2]):
        total += sum(os.path.getsize(os.path.join(folder, name)) for name in names)
    print(f"assets: {total / 2**10:.0f} KiB of at most {MOST_ASSETS / 2**10:.0f}")
    failed |= total >= MOST_ASSETS
sys.exit(failed)
