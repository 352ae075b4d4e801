"""Processes that die, many times over: sessions, zygotes, the server. Nobody else notices, and nothing is left."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import statistics
import threading
import time

import pytest

from conftest import Session, descendants, is_running, wait_until

REPEATS = 100
WAYS = {
    "segfault": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "abort": ("import os\nos.abort()", "SIGABRT"),
    "exit": ("import os\nos._exit(0)", "code 0"),
    "kill": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
}


class Neighbours:
    """Sessions that compute without a pause, each on a connection of its own; `times` are the answers' in s."""

    def __init__(self, server, count=20, threads=4):
        self.server, self.count = server, count
        self.sessions = [Session(server.client(), "python", "neighbour%d-%d" % (i, time.monotonic_ns())) for i in range(count)]
        self.wrong, self.times = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(self.sessions[i::threads],)) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self, sessions):
        connections = [http.client.HTTPConnection(*self.server.address, timeout=60) for _ in sessions]
        for n in range(10**9):
            if self._stop.is_set():
                break
            for session, connection in zip(sessions, connections):
                began = time.monotonic()
                try:
                    connection.request("POST", session.path + "/exec", json.dumps({"source": "x = %d\na = x * 2" % n, "return": "a"}),
                                       {"NESTServerAuth": self.server.token, "Content-Type": "application/json"})
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200 or json.loads(body)["data"] != 2 * n:
                        self.wrong.append((response.status, body[:200]))
                except Exception as error:
                    self.wrong.append(repr(error))
                self.times.append(time.monotonic() - began)
            time.sleep(0.01)
        for connection in connections:
            connection.close()

    def p99_ms(self, begin=0):
        times = sorted(self.times[begin:])
        return 1000 * times[int(len(times) * 0.99)] if times else 0.0

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        for session in self.sessions:
            session.delete()


def server_state(server):
    pid = server.process.pid
    status = pathlib.Path("/proc/%d/status" % pid).read_text()
    anonymous = int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])
    return {"descriptors": len(os.listdir("/proc/%d/fd" % pid)), "processes": len(descendants(pid)), "anonymous KiB": anonymous}


def settled(server):
    last = None
    for _ in range(60):
        now = server_state(server)
        if last and (now["descriptors"], now["processes"]) == (last["descriptors"], last["processes"]):
            return now
        last = now
        time.sleep(0.5)
    return last


@pytest.fixture(scope="module")
def busy(module_server):
    running = module_server(limits={"max_sessions_per_user": 200})
    neighbours = Neighbours(running)
    yield running, neighbours
    neighbours.end()
    assert not neighbours.wrong, neighbours.wrong[:5]


def die(server, source, words):
    """One session that dies in a call; how long its cause took."""
    session = Session(server.client(), "python", "dies-%d" % time.monotonic_ns())
    began = time.monotonic()
    answer = session.exec(source)
    took = time.monotonic() - began
    assert answer.status == 410 and words in answer.json()["detail"], answer
    cause = session.status().json()["cause"]
    assert words in cause["text"], cause
    return took


@pytest.mark.parametrize("way", WAYS)
def test_sessions_die_beside_20_neighbours(busy, way):
    server, neighbours = busy
    wait_until(lambda: len(neighbours.times) > 200, "neighbours at work")
    for _ in range(5):
        die(server, *WAYS[way])  # warm
    before, calls = settled(server), len(neighbours.times)
    quiet_ms = neighbours.p99_ms()
    took, failed = [], []

    def work():
        for _ in range(REPEATS // 4):
            try:
                took.append(die(server, *WAYS[way]))
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed, failed[0]
    beside_ms = neighbours.p99_ms(calls)

    def back():
        now = server_state(server)
        # The keeper's spares may have been fewer before; what every death left behind would be many more.
        return now if all(now[what] <= before[what] + REPEATS // 10 for what in ("descriptors", "processes")) else None

    after = wait_until(back, "descriptors and processes as before", 30)
    print("%s: cause after %.0f ms (median), %.0f ms (slowest); neighbours' p99 %.1f ms before, %.1f ms beside; memory %+d KiB"
          % (way, 1000 * statistics.median(took), 1000 * max(took), quiet_ms, beside_ms, after["anonymous KiB"] - before["anonymous KiB"]))
    assert len(took) == REPEATS and not neighbours.wrong, neighbours.wrong[:3]
    assert after["anonymous KiB"] - before["anonymous KiB"] < 8 << 10


def zygotes(server, engine="python"):
    found = []
    for pid in descendants(server.process.pid):
        with contextlib.suppress(OSError):
            if pathlib.Path("/proc/%d/comm" % pid).read_text().strip() == engine + "-zygote":
                found.append(pid)
    return found


def test_a_zygote_killed_100_times(make_server):
    """Sessions go on, and every new one is born: by the next zygote, while the killed one is replaced."""
    server = make_server()
    if server.client().get("/v1/health").json()["isolation"] == "reduced":
        pytest.skip("without namespaces a session dies with its zygote")
    old = Session(server.client(), "python", "older")
    old.value("x = 7\na = x", "a")
    slowest = 0.0
    for n in range(REPEATS):
        pids = wait_until(lambda: zygotes(server), "a zygote")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        born = Session(server.client(), "python", "born%d" % n)
        assert born.value("a = 6 * 7", "a") == 42
        slowest = max(slowest, time.monotonic() - began)
        if n % 10 == 0:
            assert old.value("a = x", "a") == 7
        assert born.delete().status == 204
    print("a session after its zygote was killed: %.0f ms at the slowest" % (1000 * slowest))
    assert old.value("a = x", "a") == 7
    wait_until(lambda: len(zygotes(server)) <= 1, "one zygote")
    for pid in wait_until(lambda: zygotes(server), "a zygote"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: zygotes(server) and pid not in zygotes(server), "another one, though nobody needs it yet")


def test_100_children_share_no_randomness_and_no_descriptor(make_server):
    server = make_server()
    source = ("import os, random, secrets, uuid, numpy\na = [float(numpy.random.random()), random.random(), uuid.uuid4().hex, secrets.token_hex(16), "
              "float(numpy.random.default_rng().random()), sorted(int(f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f))]")
    seen = []
    for n in range(100):
        session = Session(server.client(), "python", "child%d" % n)
        seen.append(session.value(source, "a"))
        session.delete()
    for column in range(5):
        assert len({row[column] for row in seen}) == 100, "repeated"
    assert {tuple(row[5]) for row in seen} == {(0, 1, 2, 3)}, "standard streams and the channel"


def test_sigterm_at_any_moment(make_server):
    """20 sessions and 100 calls in flight or queued: each is answered or refused, none hangs; the server leaves with 0, and nothing is left."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(3):
        server = make_server()
        sessions = [Session(server.client(), "python", "s%d" % i) for i in range(20)]
        answers, threads = [], []

        def one(session):
            try:
                answers.append(session.exec("import time\ntime.sleep(0.1)\na = 1", "a", timeout=60).status)
            except OSError as error:
                answers.append(error)

        for session in sessions:
            for _ in range(5):
                threads.append(threading.Thread(target=one, args=(session,)))
                threads[-1].start()
        time.sleep(rng.random() * 0.4)
        children = descendants(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert server.process.wait(60) == 0
        assert len(answers) == 100
        # A connection that the server had not accepted yet is reset or refused; all others have an answer.
        odd = [a for a in answers if a not in (200, 503) and not isinstance(a, OSError)]
        assert not odd, odd
        assert not [a for a in answers if isinstance(a, TimeoutError)]
        wait_until(lambda: not [p for p in children if is_running(p)], "no orphan is left", 10)


def test_a_second_sigterm_leaves_at_once(make_server):
    server = make_server()
    session = Session(server.client(), "python", "endless")
    thread = threading.Thread(target=_quiet, args=(session,))
    thread.start()
    wait_until(lambda: session.status().json()["state"] == "busy", "the session is busy")
    children = descendants(server.process.pid)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: _refuses(server), "no new connection")
    assert server.alive(), "calls in flight have their grace"
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(5)
    thread.join(30)
    wait_until(lambda: not [p for p in children if is_running(p)], "no orphan is left", 10)


def _quiet(session):
    try:
        session.exec("while True: pass")
    except (OSError, http.client.HTTPException):
        pass


def _refuses(server):
    try:
        server.client().get("/v1/health", timeout=5)
        return False
    except (OSError, http.client.HTTPException):
        return True
