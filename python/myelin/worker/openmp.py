"""OpenMP's threads: a session can branch only if they can be paused, which runtimes of before 2019 don't know.

Simulators bring a runtime of their own in their wheels (`*.libs/libgomp-….so`) or their environment (`lib/libgomp.so.1`).
"""

import ctypes
import glob
import os
import sys

_PAUSE = b"omp_pause_resource_all"
_NAMES = ("libgomp", "libomp", "libiomp")
_HARD = 2  # omp_pause_hard: the threads end, and start again at the next parallel region


def preload():
    """Starts the interpreter again with the system's libgomp in front, where the engine's own lacks `omp_pause_resource_all`."""
    if "LD_PRELOAD" in os.environ:
        os.environ.pop("LD_PRELOAD")  # the users' programs need none
        return
    patterns = [os.path.join(glob.escape(path), *parts) for path in sys.path for parts in (("*.libs", "libgomp*"), ("*", "lib", "libgomp*"))]
    patterns += [os.path.join(glob.escape(prefix), "lib", "libgomp.so.1") for prefix in {sys.prefix, sys.base_prefix} - {"/usr"}]
    mine = [file for pattern in patterns for file in glob.glob(pattern)]
    if all(can_pause(file) for file in mine):
        return
    system = [file for pattern in ("/usr/lib/*/libgomp.so.1", "/usr/lib64/libgomp.so.1") for file in glob.glob(pattern)]
    system = [file for file in system if can_pause(file)]
    if not system:
        return
    with open("/proc/self/cmdline", "rb") as file:
        command = file.read().split(b"\0")[:-1]
    os.execve(sys.executable, command, dict(os.environ, LD_PRELOAD=system[0]))


def can_pause(file):
    try:
        with open(file, "rb") as library:
            return _PAUSE in library.read()
    except OSError:
        return True


def loaded():
    """Paths of the runtimes in this process."""
    found = set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip("\n").split(None, 5)[5:]
            if path and os.path.basename(path[0]).startswith(_NAMES):
                found.add(path[0])
    return sorted(found)


def not_pausable():
    """Those whose threads would keep a session from branching. A libgomp is never used beside one that stands in front of it."""
    runtimes = loaded()
    gomp = [path for path in runtimes if os.path.basename(path).startswith("libgomp")]
    rest = [path for path in runtimes if path not in gomp and not can_pause(path)]
    return rest if any(can_pause(path) for path in gomp) else rest + gomp


def pause():
    """Ends the threads of all runtimes."""
    for path in loaded():
        try:
            ctypes.CDLL(path).omp_pause_resource_all(_HARD)
        except (AttributeError, OSError):
            pass  # too old, or replaced on the disk: the branch is refused, naming threads
