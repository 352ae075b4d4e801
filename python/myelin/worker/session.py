"""A session: the main loop that runs calls. One thread, one call at a time."""

import errno
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import time

from . import PROTOCOL, arguments, branch, files, functions, protocol, rope, saving, script
from .interrupts import Interrupts
from .output import KEEP_BYTES, RATE_BYTES, Capture, Tee

PROGRESS_S = 0.05
BRANCH_S = 10.0  # how long the server may take to send a branch's descriptors
SERVERS = ("keep", "title", "timeout_s", "inputs")  # members of a request that the server has read
ERROR_STDOUT = 256 << 10  # characters of stdout that an error carries, the newest


class Session:
    """Owns the channel. `engine` is the adapter that the zygote imported."""

    def __init__(self, sock, engine, library=None, namespaces=False):
        self.channel = protocol.Channel(sock)
        self.engine = engine
        self.library = library  # that enters the sandbox and branches; None in tests
        self.namespaces = namespaces
        self.places = branch.Places(os.environ.get("HOME", "/"))
        self.interrupts = Interrupts(self.channel)
        self.interrupts.branch = self.branch
        self.interrupts.follow = self.follow
        self._followed = False
        self._left_call = False  # this is a branch, and the call that it was made in is the session's to answer
        self.options = {}
        self.encoder = rope.Encoder()
        self.encoder.hooks = list(engine.hooks())
        self.stdout = None
        self.tee = None
        self._names = {}
        self._spaces = None  # globals of the v1 scripts
        self._incoming = None  # a state that is put back, in parts
        self._last_progress = 0.0
        self._interruptible = True
        self._call = 0
        self._pid = os.getpid()
        self._kernel_errors = engine.kernel_errors()
        self._states = []
        self.scripted = False  # the running call is a script
        self.sources = None  # below it lie the files of the package whose function runs

    # -- for engines --------------------------------------------------------------------------------------------------

    def progress(self, done_ms, of_ms):
        """Says how far a simulation is; sends at most one frame each 50 ms. Costs nothing to call often."""
        now = time.monotonic()
        if self._call and now - self._last_progress >= PROGRESS_S:
            self._last_progress = now
            done = done_ms / of_ms if of_ms > 0 else 1.0
            body = json.dumps({"done": round(min(done, 1.0), 6), "time_ms": done_ms, "of_ms": of_ms})
            self.channel.send(protocol.PROGRESS, body.encode(), self._call)
            self.tee.push()  # what the pipe had no room for when it was printed

    def interruptible(self, can):
        """Says whether what runs now can be interrupted, if that is news. A call can, unless told otherwise."""
        if self._call and can != self._interruptible:
            self._interruptible = can
            self.channel.send(protocol.PROGRESS, b'{"interruptible":true}' if can else b'{"interruptible":false}', self._call)

    def state(self, **values):
        """A change of state, sent in front of the result."""
        self._states.append(values)

    def state_now(self, **values):
        """The same, where its place among what a follower is sent matters."""
        self.channel.send(protocol.STATE, json.dumps(values).encode(), self._call)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self):
        """From the entered sandbox to the first call. False if the server closed the channel before `go`."""
        self.interrupts.install()
        options = self._enter()
        reseed(options.get("seed"))
        if options.get("nice"):
            os.nice(int(options["nice"]))
        threads = options.get("threads")
        if threads:
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
                os.environ[name] = str(int(threads))
            if self.engine.name == "nest":  # has threads of its own, and complains about this one at each start
                del os.environ["OMP_NUM_THREADS"]
        self.tee = Tee(1, int(options.get("stdout_rate") or RATE_BYTES))
        self.stdout = Capture(self.tee, int(options.get("stdout_bytes") or KEEP_BYTES))
        sys.stdout = sys.__stdout__ = self.stdout
        self._plain_exit()
        self.engine.open(self)
        self._names = dict(self.engine.names())
        names, problems = script.module_names(options.get("modules") or "")
        for problem in problems:
            self.tee.write(f"myelin: modules: {problem}\n".encode())
        self._names.update(names)

    def _enter(self):
        """hello and go: the server puts the process in its limits in between."""
        hello = {"protocol": PROTOCOL, "pid": os.getpid(), "engine": self.engine.name}
        self.channel.send(protocol.HELLO, json.dumps(hello).encode())
        kind, number, body = self.channel.receive()
        while kind == protocol.BRANCH:  # another of the same request: from here nothing has run yet
            if self.branch(number, body):
                return self.options
            kind, number, body = self.channel.receive()
        if kind != protocol.GO:
            raise protocol.ProtocolError(f"expected go, got {protocol.NAMES[kind]}")
        self.options = json.loads(body) if body else {}
        return self.options

    def _plain_exit(self):
        # site's exit() closes sys.stdin as well
        import builtins

        def leave(code=None):
            raise SystemExit(code)

        for name in ("exit", "quit"):
            leave.__name__ = name
            setattr(builtins, name, leave)

    def loop(self):
        """Runs calls until `bye`. Raises Closed, ProtocolError."""
        while True:
            kind, call, body = self.channel.receive()  # a branch has a channel of its own
            if kind == protocol.CALL:
                self.call(call, body)
            elif kind == protocol.BYE:
                return
            elif kind == protocol.INTERRUPT:
                pass  # of a call that has ended
            elif kind == protocol.BRANCH:
                self.branch(call, body)
            elif kind == protocol.FOLLOW:
                self.follow(body)
            else:
                raise protocol.ProtocolError(f"unexpected {protocol.NAMES[kind]}")

    def branch(self, number, body):
        """Answers a branch frame. True in the branch, once it may go on; False in the session."""
        try:
            files = branch.prepare(self)
            self.channel.send(protocol.BRANCHED, b'{"ready":true}', number)
            body, fds = self.channel.receive_fds(protocol.BRANCH, BRANCH_S)
        except branch.Refused as error:
            self.channel.send(protocol.BRANCHED, json.dumps({"refused": str(error)}).encode(), number)
            return False
        except TimeoutError as error:
            raise protocol.ProtocolError(str(error)) from None
        try:
            if body == protocol.CANCEL:
                raise branch.Refused("it was given up")
            if len(fds) != 2:
                raise protocol.ProtocolError("a branch needs a channel and an output")
            mine = branch.fork(self, files, fds[0], fds[1], json.loads(body)["directory"])
        except branch.Refused as error:
            self.channel.send(protocol.BRANCHED, json.dumps({"refused": str(error)}).encode(), number)
            return False
        finally:
            if os.getpid() == self._pid:
                for fd in fds:
                    os.close(fd)
        if not mine:
            self.channel.send(protocol.BRANCHED, b'{"branched":true}', number)
            return False
        self._pid = os.getpid()
        self._left_call = self._left_call or bool(self._call)
        self._call = 0
        self.channel.sock.detach()
        self._followed = False
        self.engine.follow(None)
        self.channel = self.interrupts.channel = protocol.Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=3))
        self._enter()
        return True

    def follow(self, body):
        """A follow frame: the engine's recorders are followed from now on, or no more."""
        self._followed = bool(json.loads(body).get("on"))
        text = b'{"following":true}' if self._followed else b'{"following":false}'
        try:
            self.engine.follow(self.data if self._followed else None)
        except Exception as error:
            self.data({"topic": "note", "text": f"the recorders can't be followed: {type(error).__name__}: {error}"})
        self.channel.send(protocol.STATE, text)

    def data(self, event):
        """Sends what someone who follows is to see: a dict with `topic`, small enough for a frame."""
        texts, arrays = self.encoder.encode(event, "bare")
        body, fd = rope.pack(texts, arrays, inline=True)
        self.channel.send(protocol.DATA, body)

    # -- one call -----------------------------------------------------------------------------------------------------

    def call(self, call, body):
        meta_bytes, raw = protocol.split_call(body)
        meta = arguments.loads(meta_bytes)
        interrupts = self.interrupts
        self._last_progress = time.monotonic()
        self._interruptible = True
        self._call = call
        failure = None
        data, fd = b"", None
        if interrupts.begin(call):
            failure = KeyboardInterrupt("interrupted")
        else:
            try:
                try:
                    interrupts.armed = True
                    if interrupts.requested:
                        raise KeyboardInterrupt("interrupted")
                    value = self._run(meta, raw)
                    self.engine.before_result()
                    if type(value) is saving.Saved:
                        data, fd = value.pack()
                    else:
                        data, fd = rope.pack(*self.encoder.encode(value, meta.get("nonfinite", "null")))
                    if len(data) > protocol.MAX_FROM_WORKER:
                        raise ValueError("the result has too many parts")
                finally:
                    interrupts.armed = False
            except BaseException as error:
                interrupts.armed = False
                failure = error
        if os.getpid() != self._pid:
            os._exit(0)  # a process that the script forked came out of it: the answer is its parent's
        interrupted = interrupts.requested
        interrupts.end()
        interrupts.branch_now()  # asked for where the call had no place for them
        if not self._left_call:
            interrupts.follow_now()
            if self._followed:
                self._flush()
        self._call = 0
        self.engine.after_call(meta, failure)
        if self._left_call:
            self._left_call = False
            self._states = []
            self.stdout.take()
            if fd is not None:
                os.close(fd)
            if failure is not None:
                failure.__traceback__ = None
            return
        frames = b""
        if meta.get("facts") and failure is None:
            try:
                self.state(facts=self.engine.facts())
            except Exception:
                pass  # no reason to fail the call
        if self._states:
            for values in self._states:
                frames += protocol.frame(protocol.STATE, json.dumps(values).encode(), call)
            self._states = []
        if failure is None:
            head = protocol.HEADER.pack(len(data), protocol.RESULT, 0 if fd is None else protocol.FLAG_FD, call)
        else:
            if fd is not None:
                os.close(fd)
                fd = None
            data = self._error(failure, interrupted)
            head = protocol.HEADER.pack(len(data), protocol.ERROR, 0, call)
            failure = None
        self.tee.push(all_of_it=True)
        if fd is None:
            self.channel.sock.sendall(frames + head + data)
            return
        try:
            if frames:
                self.channel.sock.sendall(frames)
            self.channel.send_bytes(head + data, fd)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            # The kernel bounds the descriptors in flight of all sessions together; one that hoards them blocks this way.
            data = self._error(OSError(error.errno, "the result is too large to be handed over while another session holds "
                                       "too many descriptors in flight: return less, or try again later"), False)
            self.channel.send(protocol.ERROR, data, call)
        finally:
            os.close(fd)

    def _flush(self):
        try:
            self.engine.flush()
        except Exception as error:  # never in the way of the call's own answer
            self.data({"topic": "note", "text": f"the recorders can't be read: {type(error).__name__}: {error}"})

    def _run(self, meta, raw):
        method = meta["method"]
        self.scripted = method == "exec"
        if method == "exec":
            args, kwargs = arguments.parse(meta.get("content_type"), meta.get("query"), raw)
            return self._exec(kwargs, meta.get("envelope") == "v1")
        if method == "call":
            request = arguments.loads(raw)
            if isinstance(request, dict):
                _only(request, "a call", ("function", "args", "kwargs", *SERVERS))
            return self._call_function(request, meta.get("scripts", True))
        if method == "step":
            request = arguments.loads(raw)
            if not isinstance(request, dict):
                raise TypeError("a step is an object")
            if "call" in request:
                _only(request, "a step", ("call", "args"))
                request = {"function": request["call"], "args": request.get("args", [])}
                return {"data": self._call_function(request, meta.get("scripts", True))["data"]}
            return self.engine.step(request)
        if method == "function":
            self.sources = meta["root"]
            return functions.do(meta, raw, self)
        if method == "version":
            return self.engine.version()
        if method == "save":
            return saving.Saved(self._space(), self.engine)
        if method == "restore":
            return self._restore(meta, raw)
        if method == "files":
            return files.do(meta["op"], meta.get("path", ""), raw)
        function = self.engine.methods.get(method)
        if function is None:
            raise AttributeError(f"the engine '{self.engine.name}' has no method '{method}'")
        if method == "list":
            return function()
        args, kwargs = arguments.parse(meta.get("content_type"), meta.get("query"), raw)
        return function(meta.get("name", ""), args, kwargs)

    def _space(self):
        if self._spaces is None:
            self._spaces = script.fresh_globals(self._names)
        return self._spaces

    def _restore(self, meta, part):
        """A part of a saved state, and with the last one the state itself."""
        if meta.get("first"):
            if self._incoming is not None:  # one that was given up
                self._incoming.close()
            self._incoming = saving.Incoming()
        self._incoming.add(part)
        if not meta.get("last"):
            return None
        incoming, self._incoming = self._incoming, None
        try:
            incoming.load(self._space(), self.engine)
        finally:
            incoming.close()

    def _exec(self, request, v1):
        self.stdout.take()
        source = request.get("source", "")
        if v1:
            _only(request, "exec", ("source", "return", "set", "fresh", *SERVERS))
            if not isinstance(request.get("source"), str):
                raise ValueError('say what to run: {"source": "a = 1"}')
            if request.get("fresh"):
                self._spaces = None
            space = self._space()
            if "set" in request:
                if not isinstance(request["set"], dict):
                    raise TypeError("set is an object: names of globals and their values")
                space.update(request["set"])
        else:
            space = script.fresh_globals(self._names)
        script.run(source, space)
        answer = {}
        if "return" in request:
            answer["data"] = script.pick(space, request["return"])
        elif v1:
            answer["data"] = {}
        stdout = self.stdout.take()
        if v1 or stdout:
            answer["stdout"] = script.clean(stdout)
        return answer

    def _call_function(self, request, scripts):
        """`call` of the native API: a function of the session's globals, else of the engine. Without `scripts` only of the engine:
        by the globals' attributes everything can be reached."""
        if not isinstance(request, dict):
            raise TypeError("a call is an object with function, args and kwargs")
        name = request.get("function")
        if not isinstance(name, str) or not name:
            raise ValueError('say which function: {"function": "Create"}')
        args, kwargs = request.get("args", []), request.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise TypeError("args is an array and kwargs an object")
        self.stdout.take()
        first, *rest = name.split(".")
        space = {}
        if scripts:
            space = self._spaces if self._spaces is not None else script.fresh_globals(self._names)
        api = self.engine.methods.get("api")
        if first in space and (rest or first not in self._names or api is None) and not first.startswith("__"):
            function = space[first]
            for part in rest:
                function = getattr(function, part)
            if not callable(function):
                raise TypeError(f"{name} is no function")
            value = function(*args, **kwargs)
        elif api is not None:
            value = api(name, args, kwargs)
        else:
            why = "define it by a script first" if scripts else "running scripts is turned off on this server"
            raise AttributeError(f"no function {name}: {why}")
        return {"data": value, "stdout": script.clean(self.stdout.take())}

    def _error(self, error, interrupted):
        described = script.describe(error, self.sources)
        if isinstance(error, SystemExit):
            code = error.code
            described["text"] = "the script ended itself by exit()" if code is None else f"the script ended itself by exit({code!r})"
        elif isinstance(error, MemoryError) and not described["text"]:
            described["text"] = "out of memory"
        described["kernel"] = isinstance(error, self._kernel_errors)
        if described["kernel"] and not described["text"]:
            described["text"] = "the kernel gave no reason; its messages are in the session's output"
        described["interrupted"] = bool(interrupted and isinstance(error, KeyboardInterrupt))
        stdout = self.stdout.take() if self.stdout is not None else ""
        if stdout:
            if len(stdout) > ERROR_STDOUT:
                stdout = "[...]\n" + stdout[-ERROR_STDOUT:]
            described["stdout"] = script.clean(stdout)
        body = json.dumps(described).encode()
        if len(body) > protocol.MAX_FROM_WORKER:
            described.pop("stdout", None)
            described["text"] = described["text"][:4096]
            body = json.dumps(described).encode()
        error.__traceback__ = None  # frees the script's frames
        return body


def _only(request, what, known):
    unknown = [str(name) for name in request if name not in known]
    if unknown:
        raise ValueError(f"{what} has no member '{unknown[0][:100]}'; known: {', '.join(known)}")


# -- the child ----------------------------------------------------------------------------------------------------------


def reseed(seed=None):
    """New random numbers for a forked process; with the same seed, the same. uuid and secrets come from the system; NEST's own seed is
    its kernel's."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def environment(home, namespaces, extra):
    """HOME, TMPDIR and the places of caches."""
    os.environ["HOME"] = home
    work = os.path.join(home, "work")
    cache = os.path.join(work if os.path.isdir(work) else home, ".cache")
    beside = os.path.join(os.path.dirname(home), "tmp")
    temporary = "/tmp" if namespaces else beside if os.path.isdir(beside) else os.path.join(home, ".tmp")
    if not namespaces:
        try:
            os.makedirs(temporary, exist_ok=True)
        except OSError:
            pass
    os.environ["TMPDIR"] = temporary
    os.environ["XDG_CACHE_HOME"] = cache
    os.environ.setdefault("CYTHON_CACHE_DIR", os.path.join(cache, "cython"))
    os.environ["MPLCONFIGDIR"] = os.path.join(cache, "matplotlib")
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(cache, "jax")
    os.environ["PWD"] = home
    # Where nest.Install and the dynamic loader look for modules that users compiled.
    libraries = [os.path.join(work, "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(path for path in libraries if path)
    os.environ.pop("MYELIN_ENTER_LIBRARY", None)
    for name, value in (extra or {}).items():
        os.environ[str(name)] = str(value)
    import tempfile

    tempfile.tempdir = None


def main(engine, spawn, namespaces, library=None):
    """Runs in the forked child whose fd 3 is the channel, inside the sandbox. Returns the exit status."""
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)
    environment(spawn.get("home") or "/", namespaces, spawn.get("env"))
    gc.set_threshold(100_000, 20, 20)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=3)
    session = Session(sock, engine, library, namespaces)
    try:
        session.start()
        session.loop()
    except protocol.Closed:
        return 0
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except protocol.ProtocolError as error:
        _say(f"myelin: protocol error: {error}\n")
        return 71
    return 0


def _say(text):
    if select.select([], [2], [], 0)[1]:
        os.write(2, text.encode()[:4000])


def reset_signals():
    """What the zygote changed for itself."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
