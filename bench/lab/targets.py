"""What is measured: this server, the real NEST Servers, a minimal server, and a plain Python."""

import http.client
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import threading
import time

from .processes import Process, Unavailable, children, clean_environment, free_port, rss

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOKEN = "bench"
ENGINES_PYTHON = pathlib.Path(os.environ.get("MYELIN_ENGINES_PYTHON", ROOT / ".venv" / "bin" / "python"))
PATIENCE_S = 120


class Target:
    """A server under measurement. One keep-alive connection, made anew where the server closes it."""

    title = ""
    pid = 0

    def connect(self, timeout=PATIENCE_S):
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    headers = {}

    def send(self, connection, method, path, content=None, headers=()):
        body = None if content is None else json.dumps(content).encode()
        sent = dict(self.headers, **dict(headers))
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, path, body, sent)
        return connection.getresponse()

    def ask(self, method, path, content=None, headers=(), connection=None):
        """The body of a 2xx."""
        own = connection is None
        connection = connection or self.connect()
        try:
            response = self.send(connection, method, path, content, headers)
            body = response.read()
        finally:
            if own:
                connection.close()
        if response.status // 100 != 2:
            text = re.sub(rb"<[^>]*>|\s+", b" ", body[:400]).decode("utf-8", "replace").strip()
            raise Unavailable("%s: %s %s answered %d: %s" % (self.title, method, path, response.status, text))
        return body

    def run_script(self, source, returns=None, prefix=""):
        content = {"source": source}
        if returns:
            content["return"] = returns
        return json.loads(self.ask("POST", prefix + "/exec", content) or b"null")

    def reset(self):
        self.ask("POST", "/api/ResetKernel", {})


class Peer(Target):
    """A real NEST Server, as its own `nest-server start` starts it (gunicorn, one worker)."""

    def __init__(self, title, directory, folder):
        self.title = title
        home = pathlib.Path(os.environ.get("MYELIN_" + directory.strip(".").replace("-", "_").upper(), ROOT / directory))
        command = home / "bin" / "nest-server"
        if not command.exists():
            raise Unavailable("%s is not there; `make bench` installs it" % command)
        port = free_port()
        self.address = ("127.0.0.1", port)
        name = directory.strip(".")
        variables = clean_environment(
            PATH="%s:%s" % (home / "bin", os.environ.get("PATH", "/usr/bin:/bin")), PYTHONNOUSERSITE="1",
            NEST_SERVER_DISABLE_AUTH="1", NEST_SERVER_ENABLE_EXEC_CALL="1", NEST_SERVER_MODULES="import nest\nimport time",
            NEST_SERVER_TIMEOUT="300", NEST_SERVER_LOGFILE=str(folder / (name + ".out")),
            NEST_SERVER_PIDFILE=str(folder / (name + ".pid")))
        self.server = Process([command, "start", "-p", port], folder, name, variables, stdout=subprocess.DEVNULL)
        self.pid = self.server.process.pid
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.ask("GET", "/")
            except (OSError, http.client.HTTPException):
                if self.server.process.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable("%s did not start: %s" % (self.title, self.server.tail())) from None
                time.sleep(0.02)

    def worker(self):
        """The process that holds the kernel."""
        return max(children(self.pid) or [self.pid], key=lambda pid: rss(pid) or 0)

    def restart_s(self):
        """From the end of its kernel's process to the next answer: what a fresh kernel costs there."""
        begin = time.perf_counter()
        os.kill(self.worker(), signal.SIGKILL)
        time.sleep(0.05)
        self.wait()
        return time.perf_counter() - begin

    def close(self):
        self.server.close()


class FlaskStack(Target):
    """The libraries that NeuroAPI is made of, with one route like its own."""

    title = "NeuroAPI's libraries"

    def __init__(self, folder):
        python = pathlib.Path(os.environ.get("MYELIN_VENV_NEUROAPI", ROOT / ".venv-neuroapi")) / "bin" / "python"
        if not python.exists():
            raise Unavailable("%s is not there; `make bench` installs it" % python)
        port = free_port()
        self.address = ("127.0.0.1", port)
        self.server = Process([python, ROOT / "bench" / "lab" / "flask_stack.py", port], folder, "flask", clean_environment(), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.ask("POST", "/api/v1/function", {"function": "return_params", "params": {"params": 1}})
                return
            except OSError:
                if self.server.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise Unavailable("%s did not start: %s" % (self.title, self.server.tail())) from None
                time.sleep(0.02)

    def close(self):
        self.server.close()


class MinimalServer(Target):
    """Answers everything at once with a fixed text: what is left is the client's own time."""

    title = "the minimal Beast server"

    def __init__(self, binary, folder):
        self.process = Process([binary], folder, "beast", clean_environment(), stdout=subprocess.PIPE)
        port = int(self.process.process.stdout.readline() or 0)
        if not port:
            raise Unavailable("beast_min did not start: " + self.process.tail())
        self.address = ("127.0.0.1", port)

    def close(self):
        self.process.close()


class Myelin(Target):
    title = "Myelin"
    headers = {"NESTServerAuth": TOKEN}
    bearer = {"Authorization": "Bearer " + TOKEN}

    def __init__(self, binary, folder, name="myelin", settings=""):
        """`settings`: further lines of its configuration."""
        if not binary.exists():
            raise Unavailable("%s is not there; `make build` makes it" % binary)
        data = folder / (name + "-data")
        data.mkdir()
        kept = {k: v for k, v in clean_environment().items() if k not in ("MYELIN_BINARY", "MYELIN_VENV_PEER", "MYELIN_VENV_PEER3")}
        config = folder / (name + ".toml")  # so that no other configuration is found
        config.write_text("python = %s\n" % json.dumps(str(ENGINES_PYTHON)) + settings)
        self.server = Process([binary, "serve", "--host", "127.0.0.1", "--port", "0", "--data", data, "--config", config, "--token", TOKEN],
                              folder, name, kept, stdout=subprocess.PIPE)
        self.pid = self.server.process.pid
        out, text = self.server.process.stdout, b""
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not (found := re.search(rb"^listening on http://([\d.]+):(\d+)", text, re.M)):
                ready = select.select([out], [], [], max(deadline - time.monotonic(), 0))[0]
                piece = os.read(out.fileno(), 4096) if ready else b""
                if not piece:
                    raise Unavailable("Myelin did not start: " + self.server.tail())
                text += piece
            self.address = (found[1].decode(), int(found[2]))
            threading.Thread(target=lambda: [None for _ in iter(lambda: out.read(4096), b"")], daemon=True).start()
            self.ask("GET", "/")  # waits for the engine
        except BaseException:
            self.close()
            raise

    def session(self, engine, connection=None, name=None):
        content = {"engine": engine}
        if name:
            content["name"] = name
        return json.loads(self.ask("POST", "/v1/sessions", content, self.bearer, connection))["id"]

    def session_exec(self, session, source, returns, connection=None):
        content = {"source": source, "return": returns}
        return json.loads(self.ask("POST", "/v1/sessions/%s/exec" % session, content, self.bearer, connection))["data"]

    def end_session(self, session, connection=None):
        self.ask("DELETE", "/v1/sessions/" + session, None, self.bearer, connection)

    def close(self):
        self.server.close()


class InProcess:
    """A plain Python with the engines, told by lines what to run."""

    def __init__(self, folder):
        if not ENGINES_PYTHON.exists():
            raise Unavailable("%s is not there; `make bench` installs it" % ENGINES_PYTHON)
        self.server = Process([ENGINES_PYTHON, ROOT / "bench" / "inprocess.py"], folder, "in-process",
                              clean_environment(OPENBLAS_NUM_THREADS="1"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.do(COMMON)
        except BaseException:
            self.close()
            raise

    def do(self, source):
        process = self.server.process
        process.stdin.write(json.dumps(source).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise Unavailable("the in-process Python ended: " + self.server.tail())
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise Unavailable("in-process: " + answer["error"].strip().splitlines()[-1])
        return answer

    def close(self):
        self.server.close()


# What the in-process Python knows: the calls as a script has them, their results as JSON text, a clock.
COMMON = '''
import json, time
import nest
try:
    import orjson
except ImportError:
    orjson = None

def plain(value):
    return value.tolist() if hasattr(value, "tolist") else str(value)

def encode(value):
    if orjson:
        return orjson.dumps(value, plain, orjson.OPT_NON_STR_KEYS)
    return json.dumps(value, default=plain).encode()

def times(function, count):
    for _ in range(count // 10 + 1):
        function()
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return taken

def run_script(source, returns):
    space = {"nest": nest, "time": time}
    exec(compile(source, "<script>", "exec"), space)
    return space.get(returns)
'''


def timed_calls(target, method, path, content, count, pause=0.0, warm_up=True):
    """Seconds of each call, over one connection, until the answer is read."""
    connection = target.connect()
    body = None if content is None else json.dumps(content).encode()
    headers = dict(target.headers, **({"Content-Type": "application/json"} if body else {}))
    taken = []
    try:
        for number in range(-(count // 10 + 1) if warm_up else 0, count):
            if pause:
                time.sleep(pause)
            begin = time.perf_counter()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            if number >= 0:
                taken.append(time.perf_counter() - begin)
            if response.status != 200:
                raise Unavailable("%s: %s answered %d" % (target.title, path, response.status))
    finally:
        connection.close()
    return taken
