"""Walls around a process that reads a stranger's file: little memory, little time, no network, no new programs, no writing.

What the kernel offers beyond resource limits (a filter of system calls, a network of its own) is taken where it is there.
"""

import contextlib
import ctypes
import os
import platform
import resource
from typing import Final

# System calls by processor: connecting, starting programs, looking into other processes, and opening files.
_NETWORK: Final = {
    "x86_64": (41, 42, 43, 49, 50, 53, 288),
    "aarch64": (198, 203, 202, 200, 201, 199, 242),
}
_PROGRAMS: Final = {"x86_64": (59, 322, 101, 310, 311, 62, 165), "aarch64": (221, 281, 117, 270, 271, 129, 40)}
_OPENING: Final = {"x86_64": (2, 85, 257, 437, 82, 87, 264, 263), "aarch64": (56, 437, 38, 35)}
_ARCHITECTURE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW: Final = 0x7FFF0000
_DENY: Final = 0x00050000 | 1  # the call fails with EPERM
_NO_NEW_PRIVILEGES: Final = 38
_SECCOMP: Final = 22
_FILTER: Final = 2
_NEW_NETWORK: Final = 0x40000000 | 0x10000000


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Limits that every kernel keeps. Beyond the memory the process fails, beyond the time it is killed."""
    for which, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(which)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (limit, limit))


def close_the_door(*, may_open: bool) -> bool:
    """No network, no programs, no files but those that are open (``may_open``: files may be opened). True if the kernel helps.

    Everything that is to be imported must have been imported before.
    """
    library = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError, OSError):
        library.unshare(_NEW_NETWORK)
    machine = platform.machine()
    if machine not in _ARCHITECTURE or not hasattr(os, "fork"):
        return False
    denied = (*_NETWORK[machine], *_PROGRAMS[machine], *(() if may_open else _OPENING[machine]))
    program = _filter(denied, _ARCHITECTURE[machine])
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(library.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(denied: tuple[int, ...], architecture: int) -> _Program:
    """Deny these calls and those of another architecture; allow all others."""
    load, equal, end = 0x20, 0x15, 0x06
    steps = [_Instruction(load, 0, 0, 4), _Instruction(equal, 0, len(denied) + 1, architecture), _Instruction(load, 0, 0, 0)]
    steps += [_Instruction(equal, len(denied) - index, 0, call) for index, call in enumerate(denied)]
    # The last comparison jumps over the permission to the refusal; another architecture lands on it as well.
    steps += [_Instruction(end, 0, 0, _ALLOW), _Instruction(end, 0, 0, _DENY)]
    steps[1] = _Instruction(equal, 0, len(denied) + 2, architecture)
    return _Program(len(steps), (_Instruction * len(steps))(*steps))
