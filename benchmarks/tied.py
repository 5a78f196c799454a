"""Ties a new process to one core before it loads anything, then runs a module in it.

    python -m benchmarks.tied CORE MODULE < ORDER

A library that looks at the number of cores when it is loaded sees the one that it gets.
"""

from __future__ import annotations

import importlib
import sys

from benchmarks.processes import tie

if __name__ == "__main__":
    tie(int(sys.argv[1]))
    importlib.import_module(sys.argv[2]).main(sys.stdin.readline())
