"""The zygote: imports an engine, stays single-threaded, forks sessions (section 3 of worker-protocol.md)."""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time

from . import PROTOCOL, engines, imports, openmp, protocol

MESSAGE_BYTES = 64 << 10
CONTROL_FD = 3


class Join(ctypes.Structure):
    """struct myelin_join of libmyelin_enter.so."""

    _fields_ = [
        ("init_pidfd", ctypes.c_int),
        ("channel_fd", ctypes.c_int),
        ("output_fd", ctypes.c_int),
        ("user", ctypes.c_char_p),
        ("mounts", ctypes.POINTER(ctypes.c_char_p)),
        ("home", ctypes.c_char_p),
        ("files", ctypes.c_ulonglong),
        ("processes", ctypes.c_ulonglong),
        ("file_bytes", ctypes.c_ulonglong),
        ("data_bytes", ctypes.c_ulonglong),
        ("core_bytes", ctypes.c_ulonglong),
        ("filter", ctypes.c_char_p),
        ("filter_length", ctypes.c_uint),
    ]


def set_name(name):
    """What `ps` and `top` show."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name[:15])
    except OSError:
        pass


def preload():
    """What every session needs, imported once here: pages that the zygote filled are shared, a session's own are not."""
    import secrets  # noqa: F401  with hashlib and OpenSSL behind it
    import tempfile  # noqa: F401

    from . import session  # noqa: F401

    if "numpy" in sys.modules:
        import numpy.random  # noqa: F401


def load_library(path):
    """The library that enters the sandbox. PyDLL: the GIL is kept, so that fork and join stay one thread's business."""
    library = ctypes.PyDLL(path)
    library.myelin_aim.argtypes = [ctypes.c_int]
    library.myelin_aim.restype = ctypes.c_int
    library.myelin_join.argtypes = [ctypes.POINTER(Join), ctypes.c_char_p]
    library.myelin_join.restype = ctypes.c_int
    library.myelin_branch.argtypes = [ctypes.c_int]
    library.myelin_branch.restype = ctypes.c_long
    return library


def describe_open():
    """All descriptors: (fd, path, flags)."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
            with open(f"/proc/self/fdinfo/{name}") as info:
                facts = dict(line.split(":", 1) for line in info if ":" in line)
        except OSError:
            continue  # the directory that was read for the list
        found.append((int(name), path, int(facts["flags"], 8)))
    return found


def reopen(left):
    """In a session, whose descriptors were closed: a module may still use what it opened at its import, such as a log, and must not
    meet another file there. What a session may not see is empty, and takes everything."""
    for fd, path, flags in left:
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        try:
            new = os.open(os.devnull if writes or not os.path.isfile(path) else path, flags & os.O_ACCMODE | os.O_CLOEXEC)
        except OSError:
            new = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if new != fd:
            os.dup2(new, fd, inheritable=False)
            os.close(new)


class Refused(Exception):
    """A session can't be spawned; the zygote goes on."""


class Zygote:
    def __init__(self, control, engine_name, kind, preload=()):
        self.control = control
        self.engine_name = engine_name
        self.kind = kind  # which adapter
        self.preload = preload
        self.thread_by = ""  # the module whose import started a thread
        self.left_open = []  # (fd, path, flags) of what imported modules keep open
        self.engine = None
        self.library = None
        self.filter = b""
        self._children = set()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self):
        """Returns the exit status of the process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        message, fds = self._receive()
        if message is None:
            return 0
        try:
            self._hello(message, fds)
            set_name(f"{self.engine_name}-zygote")
            started = time.monotonic()
            if not message["hello"].get("late"):
                before = {fd for fd, path, flags in describe_open()}
                with imports.Watch() as watch:
                    self.engine = self.load()
                self.thread_by = watch.culprit
                preload()
                self.left_open = [one for one in describe_open() if one[0] not in before]
            import_ms = (time.monotonic() - started) * 1000
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 20, 20)
        except BaseException as error:
            self._send({"failed": {"id": None, "reason": f"{type(error).__name__}: {error}"}})
            return 1
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._send(
            {
                "ready": {
                    "engine": self.engine_name,
                    "pid": os.getpid(),
                    "versions": self.versions() if self.engine else {},
                    "threads": imports.thread_count(),
                    "thread_by": self.thread_by,
                    "openmp": openmp.not_pausable() if self.engine else [],
                    "import_ms": round(import_ms, 1),
                    "interruptible": self.engine.interruptible if self.engine else True,
                    "saves": self.engine.saves if self.engine else False,
                    "why_no_branches": (self.engine.why_no_branches if self.library else "the sandbox library is missing") if self.engine else "",
                }
            }
        )
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            # the timeout is a second chance only, should a wake-up ever get lost
            ready = dict(poll.poll(5000))
            if self._wake in ready:
                try:
                    os.read(self._wake, 4096)
                except BlockingIOError:
                    pass
            self._reap()
            if self.control.fileno() in ready:
                message, fds = self._receive()
                if message is None:
                    return 0
                if not self._handle(message, fds):
                    return 1

    def load(self):
        """The engine, imported here: in the zygote, or in each session where an import starts threads (late)."""
        engine = engines.load(self.kind)
        for name in self.preload:
            __import__(name)
        return engine

    def versions(self):
        """The engine's, and those of the preloaded packages."""
        versions = dict(self.engine.versions())
        for name in self.preload:
            package = name.partition(".")[0]
            version = getattr(sys.modules.get(package), "__version__", None)
            if isinstance(version, str):
                versions.setdefault(package, version)
        return versions

    # -- messages -----------------------------------------------------------------------------------------------------

    def _receive(self):
        """(message, fds); (None, []) at end of file."""
        try:
            data, fds, flags, _ = socket.recv_fds(self.control, MESSAGE_BYTES, 8, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None, []
        if not data:
            for fd in fds:
                os.close(fd)
            return None, []
        try:
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            return message, fds
        except ValueError as error:
            return {"invalid": str(error)}, fds

    def _send(self, message):
        try:
            self.control.send(json.dumps(message).encode()[:MESSAGE_BYTES])
        except (BrokenPipeError, ConnectionResetError):
            pass  # end of file follows

    def _hello(self, message, fds):
        try:
            hello = message.get("hello")
            if not isinstance(hello, dict):
                raise Refused("the first message must be hello")
            if hello.get("protocol") != PROTOCOL:
                raise Refused(f"protocol {hello.get('protocol')} is not {PROTOCOL}")
            length = int(hello.get("filter_bytes") or 0)
            if length and not fds:
                raise Refused("hello without the filter")
            if length:
                self.filter = os.pread(fds[0], length, 0)
                if len(self.filter) != length or length % 8:
                    raise Refused("the filter is broken")
        finally:
            for fd in fds:
                os.close(fd)
        path = os.environ.get("MYELIN_ENTER_LIBRARY")
        if path:
            self.library = load_library(path)
        elif os.environ.get("MYELIN_REDUCED") != "1":
            raise Refused("MYELIN_ENTER_LIBRARY is not set")

    def _handle(self, message, fds):
        """False: the zygote must end."""
        adopt = message.get("adopt")
        if isinstance(adopt, int):
            self._children.add(adopt)
            return True
        spawn = message.get("spawn")
        identity = spawn.get("id") if isinstance(spawn, dict) else None
        try:
            if not isinstance(spawn, dict):
                raise Refused("unknown message")
            if len(fds) < 2:
                raise Refused("spawn needs a channel and an output")
            threads = imports.thread_count()
            if threads != 1:
                self._send({"failed": {"id": identity, "reason": f"not single-threaded: {threads}"}})
                return False
            pid = self._spawn(spawn, fds)
            self._children.add(pid)
            self._send({"spawned": {"id": identity, "pid": pid}})
        except (Refused, OSError, TypeError, ValueError) as error:
            self._send({"failed": {"id": identity, "reason": str(error)}})
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _reap(self):
        while True:  # also what a session made its parent's child: branches, which the server names by adopt
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._children:
                self._children.discard(pid)
                self._send({"exited": {"pid": pid, "status": status}})

    # -- fork ---------------------------------------------------------------------------------------------------------

    def _spawn(self, spawn, fds):
        init = fds[2] if len(fds) > 2 else -1
        join = self._join(spawn, fds[0], fds[1], init)
        if init >= 0:
            if self.library is None:
                raise Refused("namespaces need MYELIN_ENTER_LIBRARY")
            result = self.library.myelin_aim(init)
            if result < 0:
                raise Refused(f"aim: {os.strerror(-result)}")
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            status = self._child(spawn, join, init >= 0)
        except BaseException:  # a bug; the server sees the status and the text
            import traceback

            try:
                os.write(2, traceback.format_exc().encode()[-4000:])
            except OSError:
                pass
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:
                    pass
            os._exit(status)

    def _join(self, spawn, channel, output, init):
        limits = spawn.get("limits") or {}
        triples = [str(item).encode() for triple in spawn.get("mounts") or [] for item in triple]
        mounts = (ctypes.c_char_p * (len(triples) + 1))(*triples, None)
        user = spawn.get("user")
        home = spawn.get("home") or "/"
        return Join(
            init,
            channel,
            output,
            str(user).encode() if user else None,
            ctypes.cast(mounts, ctypes.POINTER(ctypes.c_char_p)),
            str(home).encode(),
            int(limits.get("files") or 0),
            int(limits.get("processes") or 0),
            int(limits.get("file_bytes") or 0),
            int(limits.get("data_bytes") or 0),
            0,
            self.filter or None,
            len(self.filter) // 8,
        ), mounts

    def _child(self, spawn, join, namespaces):
        from . import session

        options = join[0]
        session.reset_signals()
        self.control.detach()
        sys.stdout = sys.stderr = None
        # a copy of the channel that tells why joining failed; join closes it otherwise
        early = os.dup(options.channel_fd)
        step = ctypes.create_string_buffer(64)
        if self.library is not None:
            result = self.library.myelin_join(ctypes.byref(options), step)
        else:
            result = reduced_join(options, step)
        if result < 0:
            text = f"{step.value.decode(errors='replace')}: {os.strerror(-result)}"
            body = json.dumps({"class": "JoinError", "text": text, "kernel": False, "interrupted": False, "traceback": []})
            data = protocol.frame(protocol.ERROR, body.encode())
            try:
                os.write(early, data)
            except OSError:  # closed already, so fd 3 is the channel by now
                os.write(3, data)
            return 72
        reopen(self.left_open)
        set_name(f"{self.engine_name}-session")
        return session.main(self.engine or self.load(), spawn, namespaces, self.library)


def reduced_join(options, step):
    """What myelin_join does in reduced mode as far as Python can: file descriptors, limits, working directory. For tests."""
    import resource

    try:
        step.value = b"fds"
        channel, output = os.dup(options.channel_fd), os.dup(options.output_fd)
        high = max(channel, output, 8)
        moved = os.dup2(channel, high + 1), os.dup2(output, high + 2)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(moved[1], 1)
        os.dup2(moved[1], 2)
        os.dup2(moved[0], 3, inheritable=False)
        os.closerange(4, 65536)
        step.value = b"limits"
        for name, value in (
            (resource.RLIMIT_NOFILE, options.files),
            (resource.RLIMIT_FSIZE, options.file_bytes),
            (resource.RLIMIT_DATA, options.data_bytes),
        ):
            if value:
                resource.setrlimit(name, (value, value))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        step.value = b"home"
        os.chdir(options.home or b"/")
    except (OSError, ValueError) as error:
        return -(getattr(error, "errno", None) or 22)
    return 0


def main(arguments):
    if not arguments:
        sys.stderr.write("usage: python -m myelin.worker ENGINE[=KIND] [MODULE …]\n")
        return 2
    openmp.preload()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=CONTROL_FD)
    os.set_inheritable(CONTROL_FD, False)
    name, _, kind = arguments[0].partition("=")
    return Zygote(control, name, kind or name, arguments[1:]).run()


__all__ = ["Zygote", "main"]
