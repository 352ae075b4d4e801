"""Plays the server over socket pairs: starts a zygote in reduced mode, spawns sessions, sends calls, reads ropes."""

import array
import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PACKAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
if PACKAGE not in sys.path:
    sys.path.insert(0, PACKAGE)

from myelin.worker import protocol, rope  # noqa: E402

DEADLINE_S = 60.0
START = "import sys; sys.path.insert(0, {!r}); from myelin.worker.zygote import main; sys.exit(main({!r}))"


class Died(Exception):
    """The peer closed its socket."""


class Failure(Exception):
    """An error frame. `fields` are its fields."""

    def __init__(self, fields):
        super().__init__(f"{fields.get('class')}: {fields.get('text')}")
        self.fields = fields


class Zygote:
    def __init__(self, engine, env=None, preload=(), hello=None):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.home = tempfile.mkdtemp(prefix="myelin-test-")
        environment = {"PATH": os.environ.get("PATH", ""), "MYELIN_REDUCED": "1", "LANG": "C.UTF-8"}
        environment.update(env or {})
        fd = theirs.fileno()

        def move():
            os.dup2(fd, 3)

        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", START.format(PACKAGE, [engine, *preload])],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(3,),
            preexec_fn=move,
        )
        theirs.close()
        atexit.register(self.close)
        self._exited = {}
        self._count = 0
        filter_fd = os.memfd_create("filter")
        self.send({"hello": hello or {"protocol": 1, "filter_bytes": 0}}, [filter_fd])
        os.close(filter_fd)
        answer = self.receive()
        self.ready = answer.get("ready")
        self.failed = answer.get("failed")

    def send(self, message, fds=()):
        socket.send_fds(self.control, [json.dumps(message).encode()], list(fds))

    def receive(self, timeout=DEADLINE_S):
        if not select.select([self.control], [], [], timeout)[0]:
            raise TimeoutError("the zygote doesn't answer")
        data = self.control.recv(1 << 16)
        if not data:
            raise Died("zygote")
        return json.loads(data)

    def spawn(self, options=None, **spawn):
        return Session(self, options, **spawn)

    def answer(self):
        """The next message that isn't the exit of a session."""
        while True:
            message = self.receive()
            if "exited" not in message:
                return message
            self._exited[message["exited"]["pid"]] = message["exited"]["status"]

    def exited(self, pid, timeout=DEADLINE_S):
        """The wait status of a session."""
        while pid not in self._exited:
            message = self.receive(timeout)
            if "exited" in message:
                self._exited[message["exited"]["pid"]] = message["exited"]["status"]
        return self._exited[pid]

    def close(self):
        atexit.unregister(self.close)
        if self.control.fileno() >= 0:
            self.control.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Session:
    def __init__(self, zygote, options=None, **spawn):
        self.zygote = zygote
        self.sock, theirs = socket.socketpair()
        self.output, output = os.pipe()
        os.set_blocking(self.output, False)
        zygote._count += 1
        message = {"id": f"s{zygote._count}", "home": zygote.home}
        message.update(spawn)
        zygote.send({"spawn": message}, [theirs.fileno(), output])
        theirs.close()
        os.close(output)
        answer = zygote.answer()
        if "failed" in answer:
            raise RuntimeError(answer["failed"]["reason"])
        self.pid = answer["spawned"]["pid"]
        self._buffer = bytearray()
        self._fds = []
        self._number = 0
        self.events = []
        kind, _, body = self.frame()
        assert kind == protocol.HELLO, (kind, body)
        self.hello = json.loads(body)
        self.sock.sendall(protocol.frame(protocol.GO, json.dumps(options or {}).encode()))

    def frame(self, timeout=DEADLINE_S):
        """(kind, call, body), its memfd at the head of self._fds if the frame has one."""
        end = time.monotonic() + timeout
        while True:
            if len(self._buffer) >= 16:
                length, kind, flags, call = protocol.HEADER.unpack_from(self._buffer)
                protocol.check(length, kind, flags, protocol.FROM_WORKER, protocol.MAX_FROM_WORKER)
                if len(self._buffer) >= 16 + length:
                    body = bytes(self._buffer[16 : 16 + length])
                    del self._buffer[: 16 + length]
                    self.flags = flags
                    return kind, call, body
            if not select.select([self.sock], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the session doesn't answer")
            data, ancillary, _, _ = self.sock.recvmsg(1 << 20, 1024)
            for level, kind, raw in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(raw)
                    self._fds.extend(fds)
            if not data:
                raise Died("session")
            self._buffer += data

    def start(self, method, raw=b"", **meta):
        """Sends a call; returns its number."""
        self._number += 1
        meta["method"] = method
        text = json.dumps(meta).encode()
        body = len(text).to_bytes(4, "little") + text + raw
        self.sock.sendall(protocol.frame(protocol.CALL, body, self._number))
        return self._number

    def finish(self, number=None, timeout=DEADLINE_S):
        """(body, memfd bytes or None) of the result; raises Failure. Progress and state go to self.events."""
        while True:
            kind, call, body = self.frame(timeout)
            if kind in (protocol.PROGRESS, protocol.STATE):
                self.events.append((protocol.NAMES[kind], json.loads(body)))
                continue
            assert number is None or call == number, (call, number)
            if kind == protocol.ERROR:
                raise Failure(json.loads(body))
            assert kind == protocol.RESULT, kind
            data = None
            if self.flags & protocol.FLAG_FD:
                fd = self._fds.pop(0)
                size = os.fstat(fd).st_size
                data = b"".join(os.pread(fd, 1 << 30, at) for at in range(0, size, 1 << 30))
                os.close(fd)
            return body, data

    def call(self, method, raw=b"", timeout=DEADLINE_S, **meta):
        """The value of a call's result."""
        number = self.start(method, raw, **meta)
        nonfinite = meta.get("nonfinite", "null")
        return json.loads(rope.to_json(rope.unpack(*self.finish(number, timeout)), nonfinite))

    def json(self, method, value, **meta):
        return self.call(method, json.dumps(value).encode(), content_type="application/json", **meta)

    def exec(self, source, *names, **meta):
        request = {"source": source}
        if names:
            request["return"] = names[0] if len(names) == 1 else list(names)
        return self.json("exec", request, **meta)

    def api(self, name, *args, **kwargs):
        if args:
            kwargs["args"] = list(args)
        if not kwargs:
            return self.call("api", name=name)
        return self.json("api", kwargs, name=name)

    def interrupt(self, number, signal_too=True):
        self.sock.sendall(protocol.frame(protocol.INTERRUPT, b"", number))
        if signal_too:
            self.signal()

    def signal(self, which=signal.SIGINT):
        os.kill(self.pid, which)

    def printed(self):
        """What's on fd 1 and 2 by now."""
        parts = []
        while True:
            try:
                data = os.read(self.output, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            parts.append(data)
        return b"".join(parts).decode("utf-8", "replace")

    def close(self):
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        if self.sock.fileno() >= 0:
            self.sock.close()
            os.close(self.output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
