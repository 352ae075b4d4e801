"""Processes of the bench: started, ended by their id, their memory read."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess


class Unavailable(Exception):
    """Something can't be measured here; the text says why."""


def children(pid):
    """Process ids of all below `pid`."""
    found, queue = [], [pid]
    while queue:
        for task in pathlib.Path("/proc/%d/task" % queue.pop()).glob("*/children"):
            with contextlib.suppress(OSError):
                below = [int(c) for c in task.read_text().split()]
                found += below
                queue += below
    return found


def kib(pid, file, key):
    """A `key:  N kB` line of /proc/PID/FILE, in MB (10^6 bytes); None if it can't be read."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/%d/%s" % (pid, file)).read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def rss(pid):
    return kib(pid, "status", "VmRSS")


def private(pid):
    """What ending the process would give back, in MB; None if it can't be read."""
    parts = [kib(pid, "smaps_rollup", key) for key in ("Private_Clean", "Private_Dirty")]
    return None if None in parts else sum(parts)


def cpu_s(pid):
    """User and system time so far."""
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Growth:
    """The highest resident memory of a process between two moments, over the first."""

    def __init__(self, pid):
        self.pid, self.before = pid, rss(pid)
        try:
            pathlib.Path("/proc/%d/clear_refs" % pid).write_text("5")  # resets the high-water mark
        except OSError:
            self.before = None

    def mb(self):
        peak = kib(self.pid, "status", "VmHWM")
        return None if self.before is None or peak is None else max(peak - self.before, 0.0)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program in a process group of its own, ended by its id."""

    def __init__(self, command, folder, name, environment, **options):
        self.log = folder / (name + ".log")
        self.process = subprocess.Popen([str(part) for part in command], stderr=open(self.log, "wb"), env=environment,
                                        start_new_session=True, cwd=folder, **options)

    def tail(self):
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return text.splitlines()[-1] if text else "exit code %s" % self.process.poll()

    def close(self):
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def clean_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NEST_SERVER_")}
    return dict(kept, **more)
