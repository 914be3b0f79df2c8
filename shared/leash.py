"""Become a program that dies with its parent and stays within a memory limit: leash.py PARENT MEMORY_BYTES PROGRAM…

The kernel sends SIGKILL when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG), so fork from the main thread.
RLIMIT_DATA counts private writable memory, unlike RLIMIT_AS, which also counts what allocators merely reserve
(setrlimit(2)). Standard library only: run with -I -S.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: str, memory_bytes: str, *argv: str) -> None:
    """Put the leash on, then become `argv`; exits at once when the parent is gone already."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0):
        sys.exit("prctl failed")
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child began")
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
