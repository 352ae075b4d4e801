"""What all tests against the running server share: servers on free ports with their data in temporary folders.

`server` is one server for a whole run, with defaults; `make_server(...)` starts one of the test's own, with settings as
keywords (keys of myelin.toml) or an environment. Every server is ended, and everything it started with it.

With MYELIN_TEST_STORE=postgres each server keeps its state in a database of its own on a PostgreSQL server that the run starts.
"""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
BINARY = pathlib.Path(os.environ.get("MYELIN_BINARY", ROOT / "build" / "myelin"))
ENGINES_PYTHON = os.environ.get("MYELIN_ENGINES_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
PATIENCE_S = 120  # only ever waited for in full when something is broken

sys.path.insert(0, str(ROOT / "python"))


def pytest_report_header(config):
    lines = ["server: %s" % BINARY]
    if not SHARED.is_dir():
        lines.append("../shared is absent: what needs its data is skipped")
    return lines


class Answer:
    """An HTTP answer, read in full. Header names are case-insensitive."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "<%s %s>" % (self.status, self.text[:400])


class Client:
    """Requests to one server, each on a connection of its own (so that a fault in one test is not seen by the next)."""

    def __init__(self, address, token=None, prefix="", timeout=PATIENCE_S):
        self.address, self.token, self.prefix, self.timeout = address, token, prefix, timeout

    def request(self, method, path, body=None, headers=None, json_body=None, timeout=None):
        headers = dict(headers or {})
        if self.token is not None and not any(n.lower() in ("nestserverauth", "authorization") for n in headers):
            headers["NESTServerAuth"] = self.token
        if json_body is not None:
            body = json.dumps(json_body)
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(*self.address, timeout=timeout or self.timeout)
        try:
            connection.request(method, self.prefix + path, body.encode() if isinstance(body, str) else body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, json_body=None, **options):
        return self.request("POST", path, json_body=json_body, **options)

    def call(self, name, *args, **kwargs):
        """A NEST call that must succeed."""
        answer = self.post("/api/" + name, dict(kwargs, args=list(args)))
        assert answer.status == 200, answer
        return answer.json()

    def exec(self, source, returns=None, **options):
        """A script on the NEST face; the answer, whatever it is."""
        content = {"source": source}
        if returns is not None:
            content["return"] = returns
        return self.post("/exec", content, **options)

    def value(self, source, returns):
        """A script that must succeed; what it returned."""
        answer = self.exec(source, returns)
        assert answer.status == 200, answer
        return answer.json()["data"]

    def kernel(self, name):
        """The same user's further kernel of that name."""
        return Client(self.address, self.token, "/s/" + name, self.timeout)

    def with_token(self, token):
        return Client(self.address, token, self.prefix, self.timeout)


def add_user(server, name, role="member", password="correct horse battery"):
    """A user, as the API describes them, who has chosen that password by the operator's link; without one if None."""
    operator = server.client()
    made = operator.post("/v1/users", {"username": name, "role": role})
    assert made.status == 201, made
    if password:
        link = operator.post("/v1/users/%s/reset" % made.json()["id"], {}).json()["link"]
        answer = server.client(None).post("/v1/auth/reset", {"reset": link.partition("#reset=")[2], "new": password})
        assert answer.status == 204, answer
    return made.json()


class Session:
    """A native session."""

    def __init__(self, client, engine="python", name=None):
        self.client = client
        content = {"engine": engine}
        if name:
            content["name"] = name
        answer = client.post("/v1/sessions", content)
        assert answer.status == 201, answer
        self.id = answer.json()["id"]
        self.path = "/v1/sessions/" + self.id

    def exec(self, source, returns=None, **options):
        content = {"source": source}
        if returns is not None:
            content["return"] = returns
        return self.client.post(self.path + "/exec", content, **options)

    def value(self, source, returns):
        answer = self.exec(source, returns)
        assert answer.status == 200, answer
        return answer.json()["data"]

    def status(self):
        return self.client.get(self.path)

    def interrupt(self):
        return self.client.post(self.path + "/interrupt", {})

    def delete(self):
        return self.client.request("DELETE", self.path)


def toml_of(settings):
    """Nested dictionaries as TOML; lists of dictionaries become arrays of tables."""
    lines, tables = [], []
    for key, value in settings.items():
        if isinstance(value, dict):
            tables.append(("[%s]", key, value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables.extend(("[[%s]]", key, entry) for entry in value)
        else:
            lines.append("%s = %s" % (key, json.dumps(value)))

    def table(form, name, content):
        plain = {k: v for k, v in content.items() if not isinstance(v, dict)}
        if plain or form == "[[%s]]":
            lines.append(form % name)
            lines.extend("%s = %s" % (k, json.dumps(v)) for k, v in plain.items())
        for k, v in content.items():
            if isinstance(v, dict):
                table("[%s]", "%s.%s" % (name, k), v)

    for entry in tables:
        table(*entry)
    return "\n".join(lines) + "\n"


class Postgres:
    """A PostgreSQL server of the tests' own (see tests/postgres), or the reason why there is none."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="myelin-postgres-")
        os.chmod(self.folder, 0o755)
        said = self.tell("start", str(os.getpid()))
        self.missing = said.stdout.strip() if said.returncode else None

    def tell(self, command, *more):
        # Not by a pipe: the server would hold it open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run([str(ROOT / "tests" / "postgres"), command, self.folder, *more], stdout=out, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
            out.seek(0)
            done.stdout = out.read()
        return done

    def url(self, name):
        return "postgresql://postgres:never-shown@/%s?host=%s" % (name, self.folder)

    def psql(self, sql, database="postgres"):
        done = subprocess.run(["psql", "-h", self.folder, "-U", "postgres", "-d", database, "-tA", "-c", sql], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self, name):
        """The address of the database of that name, made if it is not there."""
        if not self.psql("SELECT 1 FROM pg_database WHERE datname = '%s'" % name):
            self.psql('CREATE DATABASE "%s"' % name)
        return self.url(name)

    def end(self):
        self.tell("kill")
        shutil.rmtree(self.folder, ignore_errors=True)


_postgres = []


def the_postgres():
    """The run's, started when it is first asked for; skips where none can be."""
    if not _postgres:
        _postgres.append(Postgres())
        atexit.register(_postgres[0].end)
    if _postgres[0].missing:
        pytest.skip(_postgres[0].missing)
    return _postgres[0]


@pytest.fixture
def postgres():
    return the_postgres()


class Server:
    """A running `myelin serve`."""

    def __init__(self, data, token="secret", arguments=(), environment=None, settings=None, command=None):
        if not BINARY.exists():
            pytest.fail("%s does not exist: run `make build` first" % BINARY)
        self.data, self.token = pathlib.Path(data), token
        self.data.mkdir(parents=True, exist_ok=True)
        config = self.data / "test.toml"
        config.write_text(toml_of(dict({"python": ENGINES_PYTHON}, **(settings or {}))))
        arguments = ["--host", "127.0.0.1", "--port", "0", "--data", str(self.data), "--config", str(config), *arguments]
        if token is not None:
            arguments += ["--token", token]
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("MYELIN_", "NEST_SERVER_"))}
        if os.environ.get("MYELIN_TEST_STORE") == "postgres":
            self.environment["MYELIN_DATABASE"] = the_postgres().database("%s_%s" % (self.data.parent.name, self.data.name))
        self.environment.update(environment or {})
        self.log = open(self.data / "server.log", "ab")
        self.process = subprocess.Popen(command or [str(BINARY), "serve", *arguments], stdout=subprocess.PIPE,
                                        stderr=self.log, env=self.environment, cwd=self.data)
        self.lines = []
        self.url = self.address = None
        deadline = time.monotonic() + PATIENCE_S
        buffer = b""
        while self.url is None:
            left = deadline - time.monotonic()
            ready = select.select([self.process.stdout], [], [], max(left, 0))[0]
            piece = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not piece:
                self.kill()
                pytest.fail("the server did not begin to listen (exit code %s):\n%s"
                            % (self.process.returncode, self.log_text()[-4000:]))
            buffer += piece
            *complete, rest = buffer.split(b"\n")
            self.lines += [line.decode() for line in complete]
            for line in complete:
                if line.startswith(b"listening on http"):
                    self.url = line.decode().split()[2]
        host, _, port = self.url.partition("://")[2].rpartition(":")
        self.address = (host, int(port))
        # Whatever else it says must not fill the pipe.
        self._printed = [buffer]
        self._drain = threading.Thread(target=lambda: [self._printed.append(line) for line in self.process.stdout], daemon=True)
        self._drain.start()

    def client(self, token="", **options):
        return Client(self.address, self.token if token == "" else token, **options)

    def printed_lines(self):
        """What it wrote to its standard output."""
        return b"".join(self._printed).decode("utf-8", "replace").splitlines()

    def log_text(self):
        with contextlib.suppress(OSError):
            return (self.data / "server.log").read_text(errors="replace")
        return ""

    def alive(self):
        return self.process.poll() is None

    def processes(self):
        """The process ids of the server and of all below it, as the kernel knows them now."""
        return [self.process.pid, *descendants(self.process.pid)]

    def stop(self, timeout=PATIENCE_S):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                pytest.fail("the server did not end after SIGTERM")
        self.log.close()
        return self.process.returncode

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()

    def raw(self, data=b"", timeout=30):
        """A connection that has sent these bytes."""
        connection = socket.create_connection(self.address, timeout=timeout)
        if data:
            connection.sendall(data)
        return connection

    def read_all(self, connection):
        """What the server sends until it closes."""
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)


def descendants(pid):
    found, queue = [], [pid]
    while queue:
        for task in pathlib.Path("/proc/%d/task" % queue.pop()).glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(c) for c in task.read_text().split()]
                found += children
                queue += children
    return found


def is_running(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Polls; fails naming `what` when it never comes true. Returns the value that was true."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "not seen within %d s: %s" % (patience_s, what)
        time.sleep(0.05)


@pytest.fixture(scope="session")
def data_root():
    # Short: sockets live below it, and their paths are limited to 107 bytes. World-readable up to here, so that an
    # unprivileged worker of a root server can reach its own folder.
    path = pathlib.Path(tempfile.mkdtemp(prefix="myelin-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def _counter():
    return iter(range(10**6))


@pytest.fixture(scope="session")
def server(data_root, _counter):
    running = Server(data_root / ("s%d" % next(_counter)))
    yield running
    running.stop()


def _server_maker(data_root, _counter):
    started = []

    def make(token="secret", arguments=(), environment=None, data=None, command=None, **settings):
        running = Server(data or data_root / ("s%d" % next(_counter)), token, arguments, environment, settings, command)
        started.append(running)
        return running

    yield make
    for running in started:
        with contextlib.suppress(Exception):
            running.stop(30)
        running.kill()


make_server = pytest.fixture(_server_maker)
module_server = pytest.fixture(_server_maker, scope="module")  # for servers that all tests of a module share


_names = iter(range(10**9))


@pytest.fixture
def nest(server):
    """A client with a fresh kernel of its own on the common server."""
    return server.client().kernel("t%d-%d" % (os.getpid(), next(_names)))


@pytest.fixture
def new_session(server):
    made = []

    def make(engine="python", on=None):
        session = Session((on or server).client(), engine, "t%d-%d" % (os.getpid(), next(_names)))
        made.append(session)
        return session

    yield make
    for session in made:
        with contextlib.suppress(Exception):
            session.delete()


class Bystanders:
    """Other users' work beside a fault: their answers must stay right. `check` may be called at any time."""

    def __init__(self, server, count=2):
        self.clients = [server.client().kernel("bystander%d" % i) for i in range(count)]
        for index, client in enumerate(self.clients):
            client.call("ResetKernel")
            client.call("Create", "iaf_psc_alpha", index + 1)
            client.call("SetKernelStatus", {"overwrite_files": bool(index % 2)})

    def check(self):
        for index, client in enumerate(self.clients):
            assert client.get("/api/network_size").json() == index + 1
            assert client.post("/api/GetKernelStatus", {"keys": "overwrite_files"}).json() is bool(index % 2)
            assert client.value("a = sum(range(1000))", "a") == 499500
        assert self.clients[0].get("/").json()["nest"]


@pytest.fixture
def bystanders(server):
    return Bystanders(server)
