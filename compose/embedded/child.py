"""Become another program that cannot outlive its parent: child.py PARENT SIGNAL UID CAPABILITIES PROGRAM [ARGUMENT…].

The kernel sends SIGNAL when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG), so fork from the event loop's
thread. A change of user clears that request, hence the order here. UID is a number, or - to stay the user one is.
CAPABILITIES is reach, to let that user pass folders that are closed to it, or -. Standard library only: run with -I -S.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAPABILITY_VERSION_3 = 0x20080522
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded):
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def become(uid: int, *, reach: bool) -> None:
    if reach:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if reach:
        keep_reach()


def keep_reach() -> None:
    """Keep, of all of root's rights, the right to pass closed folders, also across the exec."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of the low 32, then of the high 32
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget failed")
    kept = [bit for bit in (DAC_READ_SEARCH, DAC_OVERRIDE) if sets[1] & 1 << bit][:1]
    mask = sum(1 << bit for bit in kept)
    if libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset failed")
    for bit in kept:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit)


def main(parent: str, signal: str, uid: str, capabilities: str, *argv: str) -> None:
    if uid != "-":
        become(int(uid), reach=capabilities == "reach")
    prctl(PR_SET_PDEATHSIG, int(signal))
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child began")
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
