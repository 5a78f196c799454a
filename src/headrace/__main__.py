"""The `headrace` command."""

from __future__ import annotations

import os
import signal
import sys

from headrace.config import WORKER_VARIABLES, hash_seed, worker_environment

INTERRUPTED = 130


def main() -> None:
    """Run the command line, in the fixed environment that exact restarts need.

    The order of sets decides what some models learn, so the hash seed must be the same in every
    process that touches state. Python reads it only at its start: hence the second start, before
    anything heavy has been imported.
    """
    try:
        if hash_seed() != WORKER_VARIABLES["PYTHONHASHSEED"]:
            # A Ctrl-C while the new interpreter starts would show its traceback: it waits.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            command = [sys.executable, *sys.orig_argv[1:]]  # flags and all, from where it was found
            os.execve(sys.executable, command, worker_environment())  # noqa: S606 - ourselves
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if sys.flags.hash_randomization:
            sys.exit("headrace: Python ignores PYTHONHASHSEED; start it without -I, -E and -R")
        from headrace.cli.app import run  # after the check: nothing is imported twice

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
