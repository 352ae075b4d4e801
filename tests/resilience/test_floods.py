"""Too much of something: work, data, connections, requests. The server goes on answering, within bounds, and recovers by itself."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import resource
import selectors
import socket
import subprocess
import threading
import time

import pytest

from conftest import BINARY, Session, descendants, wait_until
from test_deaths import Neighbours

IDLE_CONNECTIONS = 10_000


def resident_mib(server):
    status = pathlib.Path("/proc/%d/status" % server.process.pid).read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_s(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def allow_descriptors(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip("this process may open %d files only" % hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


# ---- sessions ------------------------------------------------------------------------------------------------------------------------

BOMBS = {
    "forks": "import os, time\nwhile True:\n  try:\n    if os.fork() == 0:\n      time.sleep(600)\n      os._exit(0)\n  except OSError: time.sleep(0.01)",
    "threads": "import threading, time\nwhile True:\n  try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n  except RuntimeError: time.sleep(0.01)",
    "files": "keep = []\nimport time\nwhile True:\n  try: keep.append(open('/dev/null'))\n  except OSError: time.sleep(0.01)",
    "disk": "import os\np = os.path.expanduser('~/work') + '/f'\nwhile True:\n  try:\n    with open(p, 'wb') as f:\n      for _ in range(10_000): f.write(bytes(1 << 20))\n  except OSError: pass\n  finally: os.remove(p)",
    "output": "import os\nb = b'x' * 65535 + b'\\n'\nwhile True: os.write(1, b)",
    "print": "s = 'x' * 65535\nwhile True: print(s)",
    "processor": "import os\nfor _ in range(10):\n  if os.fork() == 0:\n    while True: pass\nwhile True: pass",
}
PIDS = 64


def test_bombs_beside_neighbours(make_server):
    """All at once, each in its session; they go on until their sessions are deleted, and the neighbours' answers stay right."""
    server = make_server(limits={"memory_per_session": "512MiB", "pids": PIDS, "files": 128, "scratch": "64MiB", "work_quota": "64MiB"})
    isolation = server.client().get("/v1/health").json()["isolation"]
    if isolation != "full":
        pytest.skip("limits of sessions are the kernel's only with full isolation, not with %r" % isolation)
    neighbours = Neighbours(server, count=5, threads=1)
    wait_until(lambda: len(neighbours.times) > 200, "neighbours at work")
    quiet_ms, calls = neighbours.p99_ms(), len(neighbours.times)
    sessions, threads, ended = {}, [], {}
    score = pathlib.Path("/proc/%d/oom_score_adj" % server.process.pid).read_text()
    for name, source in BOMBS.items():
        sessions[name] = session = Session(server.client(), "python", name)
        threads.append(threading.Thread(target=lambda n=name, s=session, text=source: ended.update({n: s.exec(text)})))
        threads[-1].start()
    memory = resident_mib(server)
    until = time.monotonic() + 6
    most = 0
    while time.monotonic() < until:
        most = max(most, len(descendants(server.process.pid)))
        assert server.client().get("/v1/health").status == 200
        time.sleep(0.2)
    grown = resident_mib(server) - memory
    beside_ms = neighbours.p99_ms(calls)
    for session in sessions.values():
        assert session.delete().status in (204, 410)
    for thread in threads:
        thread.join(60)
    print("neighbours' p99 %.1f ms before, %.1f ms beside %d bombs; %d processes at most; the server's memory %+.0f MiB"
          % (quiet_ms, beside_ms, len(BOMBS), most, grown))
    neighbours.end()
    assert not neighbours.wrong, neighbours.wrong[:3]
    assert set(ended) == set(BOMBS) and all(a.status == 410 for a in ended.values()), ended
    assert most < len(BOMBS) * 2 + 40 + PIDS + 10, "the fork bomb stays below its limit"
    assert grown < 64
    assert pathlib.Path("/proc/%d/oom_score_adj" % server.process.pid).read_text() == score
    wait_until(lambda: len(descendants(server.process.pid)) < 30, "nothing of the bombs is left")


def test_out_of_memory_takes_its_session_only(make_server):
    server = make_server(limits={"memory_per_session": "256MiB"})
    others = [Session(server.client(), "python", "other%d" % i) for i in range(3)]
    for n, session in enumerate(others):
        session.value("x = %d\na = x" % n, "a")
    greedy = Session(server.client(), "python", "greedy")
    answer = greedy.exec("keep = []\nwhile True: keep.append(bytearray(b'x') * (1 << 24))")
    assert answer.status == 410 and "memory limit of 256 MiB" in answer.text, answer
    assert greedy.status().json()["cause"]["code"] == "memory"
    assert [s.value("a = x", "a") for s in others] == [0, 1, 2] and server.alive()


def test_a_spinning_session_leaves_others_their_share(make_server):
    server = make_server()
    if server.client().get("/v1/health").json()["isolation"] != "full":
        pytest.skip("shares of the CPU are given to control groups")
    spinner, other = Session(server.client(), "python", "spinner"), Session(server.client(), "python", "other")
    spinner.exec("import os\nfor _ in range(20):\n  if os.fork() == 0:\n    while True: pass")

    def all_cpu_s():
        total = 0.0
        for pid in descendants(server.process.pid):
            with contextlib.suppress(OSError):
                total += cpu_s(pid)
        return total

    before = all_cpu_s()
    own = other.value("import time\nw, c = time.monotonic(), time.process_time()\nwhile time.monotonic() - w < 3: pass\na = time.process_time() - c", "a")
    share = own / (all_cpu_s() - before)
    print("a session had %.0f %% of the CPU that it and 20 spinning processes of another used" % (100 * share))
    assert share > 0.2, "on equal terms it would have a 21st part"
    spinner.delete()


def test_work_is_bounded_in_entries_and_while_idle(make_server):
    """The quota of ~/work counts every entry, so that inodes don't run out, and it holds for what a script left running."""
    server = make_server(limits={"work_quota": "32MiB", "pids": 64})
    sessions = {}
    for name, source in (
        ("entries", "import os, subprocess, sys\ncode = 'import os\\nd = os.path.expanduser(\"~/work\") + \"/empty\"\\nos.makedirs(d, exist_ok=True)\\nn = 0\\nwhile True:\\n  open(d + \"/%d\" % n, \"w\").close()\\n  n += 1'\nsubprocess.Popen([sys.executable, '-c', code])"),
        ("bytes", "import threading, os, time\ndef fill():\n  n = 0\n  while True:\n    with open(os.path.expanduser('~/work') + '/%d' % n, 'wb') as f: f.write(bytes(1 << 20))\n    n += 1\n    time.sleep(0.02)\nthreading.Thread(target=fill, daemon=True).start()"),
    ):
        out = subprocess.run([str(BINARY), "token", "add", name, "--data", str(server.data)], capture_output=True, text=True, timeout=60, check=True).stdout
        token = next(word for word in out.split() if len(word) >= 20 and "/" not in word).rpartition("=")[2]
        sessions[name] = Session(server.client(token=token), "python", name)
        assert sessions[name].exec(source).status == 200
        assert sessions[name].status().json()["state"] == "idle"
    for name, session in sessions.items():
        cause = wait_until(lambda s=session: s.status().json().get("cause"), "the session over its quota ends", 60)
        assert cause["code"] == "quota", cause


# ---- connections ---------------------------------------------------------------------------------------------------------------------


class KeepAlive:
    """One kind of idle client. Another kind (a WebSocket, say) has the same three members."""

    @staticmethod
    def hello(server):
        return b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    again = hello

    @staticmethod
    def complete(data):
        head, mark, body = data.partition(b"\r\n\r\n")
        return bool(mark) and head.startswith(b"HTTP/1.1 200") and body.endswith(b"}\n")


class Crowd:
    """Many connections in one thread, without blocking."""

    def __init__(self, server, kind):
        self.server, self.kind, self.sockets = server, kind, []

    def connect(self, count):
        while len(self.sockets) < count:
            batch = []
            for _ in range(min(500, count - len(self.sockets))):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(self.server.address)
                batch.append(s)
            self.ask(self.kind.hello(self.server), batch)
            self.sockets += batch

    def ask(self, request, sockets=None):
        """Sends to all; returns when all have their answer."""
        selector, received = selectors.DefaultSelector(), {}
        for s in sockets if sockets is not None else self.sockets:
            selector.register(s, selectors.EVENT_WRITE)
            received[s] = b""
        left, until = len(received), time.monotonic() + 120
        while left:
            assert time.monotonic() < until, "%d connections without an answer" % left
            for key, events in selector.select(5):
                s = key.fileobj
                if events & selectors.EVENT_WRITE:
                    assert s.send(request) == len(request)
                    selector.modify(s, selectors.EVENT_READ)
                else:
                    data = s.recv(65536)
                    assert data, "closed: %r" % received[s]
                    received[s] += data
                    if self.kind.complete(received[s]):
                        selector.unregister(s)
                        left -= 1
        selector.close()

    def close(self):
        for s in self.sockets:
            s.close()


@pytest.mark.parametrize("kind", [KeepAlive], ids=["keep-alive"])
def test_10000_idle_connections(make_server, kind):
    allow_descriptors(IDLE_CONNECTIONS + 500)
    server = make_server(limits={"connections": IDLE_CONNECTIONS + 200})
    limit = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0]
    if limit < IDLE_CONNECTIONS + 500:
        pytest.skip("the server may open %d files only" % limit)
    session = Session(server.client(), "python", "beside")
    session.value("a = 1", "a")
    crowd = Crowd(server, kind)
    try:
        crowd.connect(IDLE_CONNECTIONS)
        memory, cpu, began = resident_mib(server), cpu_s(server.process.pid), time.monotonic()
        time.sleep(8)
        idle = (cpu_s(server.process.pid) - cpu) / (time.monotonic() - began)
        times = []
        for n in range(100):
            at = time.monotonic()
            assert session.value("a = %d" % n, "a") == n
            times.append(time.monotonic() - at)
        crowd.ask(kind.again(server))
        print("%d idle connections: server %.0f MiB, %.1f %% of a CPU; a new request %.1f ms at the slowest of 100"
              % (IDLE_CONNECTIONS, memory, 100 * idle, 1000 * max(times)))
        assert memory < 256
        assert idle < 0.25
    finally:
        crowd.close()
    wait_until(lambda: len(os.listdir("/proc/%d/fd" % server.process.pid)) < 200, "the connections are gone")
    assert session.value("a = 5", "a") == 5


def test_slow_clients(make_server):
    """Heads and bodies that trickle, answers that nobody reads: all are ended, and good clients don't wait for them."""
    allow_descriptors(3000)
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    server = make_server(limits={"connections": 3000, "memory_per_session": "2GiB"})
    session = Session(server.client(), "python", "good")
    big = Session(server.client(), "python", "big")
    assert big.exec("import numpy\nb = numpy.arange(1_000_000) * 0.1").status == 200
    quiet = []
    for n in range(50):
        at = time.monotonic()
        assert session.value("a = %d" % n, "a") == n
        quiet.append(time.monotonic() - at)
    memory = resident_mib(server)

    head = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"x" * 200
    post = (b"POST %s/exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\nContent-Type: application/json\r\nContent-Length: "
            % (session.path.encode(), server.token.encode()))
    slow_heads = [server.raw(head[: rng.randrange(1, len(head))]) for _ in range(1000)]
    slow_bodies = [server.raw(post + b"1000\r\n\r\n{") for _ in range(1000)]
    unread = []
    body = b'{"source": "pass", "return": "b"}'
    for _ in range(20):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(server.address)
        s.sendall(post.replace(session.path.encode(), big.path.encode()) + b"%d\r\n\r\n" % len(body) + body)
        unread.append(s)

    open_ones, beside, statuses, until = slow_heads + slow_bodies, [], {}, time.monotonic() + 90
    for s in open_ones:
        s.setblocking(False)
    tick = 0
    while open_ones and time.monotonic() < until:
        tick += 1
        still = []
        for s in open_ones:
            try:
                data = s.recv(4096)
                statuses[data[9:12]] = statuses.get(data[9:12], 0) + 1
                s.close()
                continue
            except BlockingIOError:
                pass
            except OSError:
                s.close()
                continue
            if tick % 10 == 0:
                with contextlib.suppress(OSError):
                    s.send(b"x")
            still.append(s)
        open_ones = still
        for n in range(3):
            at = time.monotonic()
            assert session.value("a = %d" % n, "a") == n
            beside.append(time.monotonic() - at)
        time.sleep(0.5)
    assert not open_ones, "%d slow connections are still open" % len(open_ones)
    grown = resident_mib(server) - memory
    print("slow clients were answered %s; a good one's slowest call %.1f ms before, %.1f ms beside; the server's memory %+.0f MiB"
          % (statuses, 1000 * max(quiet), 1000 * max(beside), grown))
    assert set(statuses) <= {b"408", b""}, statuses
    assert grown < 20 * 4 + 64, "an unread answer is not kept in the server"

    def dropped():
        inodes = pathlib.Path("/proc/%d/net/tcp" % server.process.pid).read_text().splitlines()[1:]
        port = "%04X" % server.address[1]
        return not [line for line in inodes if line.split()[1].endswith(":" + port) and line.split()[3] == "01" and int(line.split()[4].split(":")[0], 16) > 0]

    wait_until(dropped, "readers that take nothing are dropped", 120)
    for s in unread:
        s.close()
    assert big.value("a = 1", "a") == 1


def test_connection_flood(make_server):
    """Thousands of connections that come and go; among them some are turned away, none does harm."""
    server = make_server(limits={"connections": 200})
    session = Session(server.client(), "python", "good")
    wrong, count = [], [0]
    stop = time.monotonic() + 4

    def flood():
        while time.monotonic() < stop:
            try:
                with socket.create_connection(server.address, timeout=30) as s:
                    count[0] += 1
                    if count[0] % 3 == 0:
                        s.sendall(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                        status = s.recv(4096)[9:12]
                        if status not in (b"200", b"503"):
                            wrong.append(status)
            except OSError as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=flood) for _ in range(8)]
    [t.start() for t in threads]
    while time.monotonic() < stop:
        assert session.value("a = 1", "a") == 1
    [t.join() for t in threads]
    assert not wrong, wrong[:5]
    # Full: beyond the limit the answer is 503 with a time to come back.
    kept = [server.raw() for _ in range(200)]
    answer = wait_until(lambda: _refusal(server), "no room")
    assert b" 503 " in answer and b"Retry-After" in answer, answer
    for s in kept:
        s.close()
    wait_until(lambda: not _refusal(server), "room again", 30)
    assert session.value("a = 2", "a") == 2
    print("%d connections" % count[0])


def _refusal(server):
    with contextlib.suppress(OSError), server.raw(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n") as s:
        data = server.read_all(s)
        return data if b" 503 " in data[:20] else None
    return None


def test_no_descriptors_left(make_server):
    """EMFILE: the server waits, keeps serving who is connected, says why it can't start a session, and recovers by itself."""
    server = make_server()
    pid = server.process.pid
    session = Session(server.client(), "python", "before")
    session.value("a = 1", "a")
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    known = http.client.HTTPConnection(*server.address, timeout=60)

    def ask(path="/exec", content=None):
        known.request("POST", session.path + path if path == "/exec" else path, json.dumps(content or {"source": "a = 3", "return": "a"}),
                      {"NESTServerAuth": server.token, "Content-Type": "application/json"})
        response = known.getresponse()
        return response.status, response.read()

    assert ask()[0] == 200
    for _ in range(3):
        used = max(int(f) for f in os.listdir("/proc/%d/fd" % pid))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 10, old[1]))
        kept = [server.raw(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") for _ in range(100)]
        wait_until(lambda: len(os.listdir("/proc/%d/fd" % pid)) >= used - 2, "no descriptor is left", 30)
        assert ask() == (200, b'{"data":3,"stdout":""}\n') or ask()[0] == 200
        status, body = ask("/v1/sessions", {"engine": "python"})
        assert status in (201, 500, 503), (status, body)
        assert server.alive()
        for s in kept:
            s.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
        wait_until(lambda: server.client().get("/v1/health", timeout=30).status == 200, "new connections", 30)
        fresh = Session(server.client(), "python", "after%d" % time.monotonic_ns())
        assert fresh.value("a = 4", "a") == 4
        fresh.delete()
    known.close()


FLOOD = """
import os, signal, struct
frames = 3000 * (struct.pack("<IHHQ", 2, 6, 0, 0) + b"{}")
def pour(*_):
    while True:
        os.write(3, frames)
signal.signal(signal.SIGALRM, pour)
signal.setitimer(signal.ITIMER_REAL, 1)
"""


def test_a_worker_that_floods_its_channel_between_calls_stalls_nobody(make_server):
    server = make_server()
    client = server.client()
    session = Session(client, "python")
    session.exec(FLOOD)
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    connection.request("GET", session.path + "/stream", headers={"Accept": "text/event-stream", "NESTServerAuth": server.token})
    time.sleep(2)
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert client.get("/v1/health").status == 200
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    assert slowest < 2, slowest
    session.delete()
    connection.close()


def test_bodies_that_wait_leave_room_for_others(make_server):
    server = make_server()
    ann, ben = (server.client(server.client().post("/v1/tokens", {"name": name}).json()["token"]) for name in ("ann", "ben"))
    session = Session(ann, "python")
    large = json.dumps({"source": "1", "more": "x" * (60 << 20)})
    head = {"Content-Type": "application/json"}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ann.post, session.path + "/exec", {"source": "import time; time.sleep(600)"})]
        wait_until(lambda: session.status().json()["state"] == "busy", "a busy session")

        def send():
            try:
                return ann.request("POST", session.path + "/exec", large, head).status
            except (BrokenPipeError, ConnectionResetError):
                return 503  # refused before the body was through

        sent = [pool.submit(send) for _ in range(4)]
        wait_until(lambda: any(one.done() for one in sent), "a refusal")
        other = Session(ben, "python")
        assert other.value("a = 1", "a") == 1
        session.client.post(session.path + "/interrupt", {})
        statuses = [one.result() for one in sent]
        asked[0].result()
    assert 503 in statuses, statuses


@pytest.mark.skipif(os.getuid() != 0, reason="space can be preallocated beyond a file's end by any user, but the paths are looked at as the server's")
@pytest.mark.parametrize("script", [
    "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]\n"
    "fd = os.open(os.path.expanduser('~/work') + '/held', os.O_CREAT | os.O_WRONLY)\nr = libc.fallocate(fd, 1, 0, 200 << 20)",
    "import os\nos.chdir(os.path.expanduser('~/work'))\nfor i in range(20):\n    os.mkdir('d' * 240)\n    os.chdir('d' * 240)\n"
    "for i in range(3):\n    with open('f%d' % i, 'wb') as f: f.write(bytes(40 << 20))\nr = 0",
])
def test_no_way_around_the_quota(make_server, script):
    server = make_server(limits={"work_quota": "64MiB"})
    session = Session(server.client(), "python")
    answer = session.exec(script + "\nimport time; time.sleep(20)", "r")
    if answer.status == 200 and answer.json()["data"] != 0:
        pytest.skip("this file system preallocates nothing")
    status = wait_until(lambda: (s := session.status().json())["state"] == "ended" and s, "the end of the session", 40)
    assert status["cause"]["code"] == "quota", status
    assert server.client().request("PUT", "/v1/files/more.txt", "x" * 1000).status in (413, 507)
