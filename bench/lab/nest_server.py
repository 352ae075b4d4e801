"""Rows beside the real NEST Servers: calls, results, sessions, memory, speed."""

import contextlib
import http.client
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import threading
import time

from myelin.client import cbor

from .processes import Growth, Unavailable, children, kib, rss
from .table import NA, p99, rate, ratios, text_of
from .targets import TOKEN, timed_calls


def small_call(bench, name, path, content, inside):
    rounds, count, peer_count = bench.n(5, 2), bench.n(300, 100), bench.n(40, 10)
    method = "GET" if content is None else "POST"
    targets = [*bench.peers, bench.ours]
    taken = {id(t): [] for t in targets if t}
    inner = []
    broken = set()
    for _ in range(rounds):  # in turns, so that a busy moment of the machine meets all
        for target in targets:
            if target is None or id(target) in broken:
                continue

            def block(t):
                if content is not None:
                    t.reset()
                return timed_calls(t, method, path, content, count if t is bench.ours else peer_count)

            times = bench.guarded(target, block)
            if times is None:
                broken.add(id(target))
            else:
                taken[id(target)] += times
        if bench.inside:
            inner += bench.inside.do("nest.ResetKernel()\nresult = times(lambda: encode(%s), %d)" % (inside, count))

    def median(target):
        times = taken.get(id(target)) if target else None
        return statistics.median(times) * 1e3 if times else None

    peers, ours = [median(t) for t in bench.peers], median(bench.ours)
    own = statistics.median(inner) * 1e3 if inner else None
    ratios = [p / ours if p and ours else None for p in peers]
    known = [r >= goal for r, goal in zip(ratios, (30, 15)) if r is not None]
    bench.table.row("%s, http.client" % name, "ms", peers, ours, own, " / ".join(NA if r is None else "%.0f×" % r for r in ratios),
                    "≥ 30× / ≥ 15×", all(known) if known else None)
    minimal = bench.guarded(bench, type(bench).minimal_server)
    alone = minimal and bench.guarded(minimal, lambda t: statistics.median(timed_calls(t, method, path, content, rounds * count)) * 1e3)
    if alone and own:
        bench.table.note("http.client against a server that does nothing takes %s; that and the engine alone would be %s" % (
            text_of(alone, "ms"), " / ".join(NA if p is None else "%.0f×" % (p / (alone + own)) for p in peers)))
    over = ours - own if ours and own else None
    bench.table.row("   overhead over the in-process call", "ms", ours=over, goal="≤ 0.3 ms", ok=None if over is None else over <= 0.3)
    if bench.client:
        if content is not None:
            bench.ours.reset()
        result = bench.guarded(bench.ours, lambda t: [bench.compiled_us(path, content, count) for _ in range(rounds)])
        middle = statistics.median(m for m, _, _ in result) / 1e3 if result else None
        bench.table.row("   compiled client", "ms", ours=middle, inside=own)
        fastest = min(m for _, m, _ in result) / 1e3 if result else None
        over = middle - own if middle and own else None
        bench.table.row("   overhead, compiled client", "ms", ours=over, goal="≤ 0.1 ms", ok=None if over is None else over <= 0.1)
        if result:
            bench.table.note("fastest: compiled client %s, http.client %s, in-process %s" % (
                text_of(fastest, "ms"), text_of(min(taken[id(bench.ours)]) * 1e3, "ms"), text_of(min(inner) * 1e3 if inner else None, "ms")))

    def apart(target):
        return statistics.median(timed_calls(target, method, path, content, bench.n(40, 15), 0.025)) * 1e3

    peers = [bench.guarded(t, apart) if t and id(t) not in broken else None for t in bench.peers]
    ours = bench.guarded(bench.ours, apart)
    bench.table.row("   25 ms apart, http.client", "ms", peers, ours,
                    ratio=" / ".join("%.0f×" % (p / ours) if p and ours else NA for p in peers))


def root(bench):
    small_call(bench, "GET /", "/", None, '{"nest": nest.__version__, "mpi": False}')


def kernel_status(bench):
    small_call(bench, "GetKernelStatus", "/api/GetKernelStatus", {}, "nest.GetKernelStatus()")


def create(bench):
    small_call(bench, "Create", "/api/Create", {"model": "iaf_psc_alpha"}, 'nest.Create("iaf_psc_alpha")')


def exec_small(bench):
    small_call(bench, "/exec a=1", "/exec", {"source": "a=1", "return": "a"}, 'run_script("a=1", "a")')


def ids(bench):
    def measure(target):
        target.reset()
        target.ask("POST", "/api/Create", {"model": "iaf_psc_alpha", "n": 10000})
        got = json.loads(target.ask("GET", "/api/GetNodes"))
        if got != list(range(1, 10001)):
            raise Unavailable("the ids are not those")
        return statistics.median(timed_calls(target, "GET", "/api/GetNodes", None, bench.n(20, 5))) * 1e3

    peers, ours = [bench.guarded(t, measure) for t in bench.peers], bench.guarded(bench.ours, measure)
    own = bench.guarded(bench.inside, lambda t: statistics.median(t.do(
        'nest.ResetKernel(); nest.Create("iaf_psc_alpha", 10000)\nresult = times(lambda: encode(nest.GetNodes().tolist()), 3)')) * 1e3)
    bench.table.row("ids of 10,000 nodes", "ms", peers, ours, own, ratios(peers, ours), "≤ 5 ms", ours is not None and ours <= 5)


def columns(bench):
    build = 'n = nest.Create("parrot_neuron", 100)\nnest.Connect(n, n)\n'
    fetch = "c = nest.GetConnections().get()"

    def measure(target):
        target.reset()
        target.run_script(build)
        data = target.run_script(fetch, "c")["data"]
        if not isinstance(data, dict) or len(data) < 9 or any(len(column) != 10000 for column in data.values()):
            raise Unavailable("the answer is not all columns of 10,000 connections")
        content = {"source": fetch, "return": "c"}
        return statistics.median(timed_calls(target, "POST", "/exec", content, bench.n(5, 2), warm_up=False)) * 1e3

    peers, ours = [bench.guarded(t, measure) for t in bench.peers], bench.guarded(bench.ours, measure)
    own = bench.guarded(bench.inside, lambda t: statistics.median(t.do(
        "nest.ResetKernel()\n" + build + "result = times(lambda: encode(nest.GetConnections().get()), 3)")) * 1e3)
    bench.table.row("all columns of 10,000 connections, one fetch", "ms", peers, ours, own, ratios(peers, ours), "one fetch for all",
                    ours is not None)


# A closed loop as NEST Server's clients do it: each step is a script.
LOOP_BUILD = 'n = nest.Create("iaf_psc_alpha", 100)\n'
LOOP_STEP = "n = nest.NodeCollection(list(range(1, 101)))\nn.set(I_e=%r)\nnest.Simulate(1.0)\nv = n.get(\"V_m\")"


def current(step):
    return 300.0 + step % 997 * 0.125


def exec_steps(target, steps, offset):
    """Seconds of each step."""
    connection, taken = target.connect(), []
    headers = dict(target.headers, **{"Content-Type": "application/json"})
    try:
        for i in range(-3, steps):
            begin = time.perf_counter()
            body = json.dumps({"source": LOOP_STEP % current(offset + i), "return": "v"}).encode()
            connection.request("POST", "/exec", body, headers)
            response = connection.getresponse()
            values = json.loads(response.read())["data"]
            if i >= 0:
                taken.append(time.perf_counter() - begin)
            if len(values) != 100:
                raise Unavailable("the answer has %d voltages" % len(values))
    finally:
        connection.close()
    return taken


def closed_loop(bench):
    rounds, count, peer_count = bench.n(8, 3), bench.n(60, 40), bench.n(15, 8)
    targets = [t for t in (*bench.peers, bench.ours) if t]
    taken = {id(t): [] for t in targets}
    broken = set()
    inner = []
    for target in targets:
        if bench.guarded(target, lambda t: (t.reset(), t.run_script(LOOP_BUILD))) is None:
            broken.add(id(target))
    if bench.inside:
        bench.inside.do("nest.ResetKernel()\n" + LOOP_BUILD)
    for number in range(rounds):
        for target in targets:
            if id(target) in broken:
                continue
            times = bench.guarded(target, lambda t: exec_steps(t, count if t is bench.ours else peer_count, number * count))
            if times is None:
                broken.add(id(target))
            else:
                taken[id(target)] += times
        if bench.inside:
            inner += bench.inside.do("steps = iter([%r %% (300.0 + (%d + i) %% 997 * 0.125) for i in range(1000)])\n"
                                     'result = times(lambda: run_script(next(steps), "v"), %d)' % (LOOP_STEP, number * count, count))
    peers = [rate(taken.get(id(t))) if t else None for t in bench.peers]
    ours, own = rate(taken[id(bench.ours)]), rate(inner)
    share = ours / own if ours and own else None
    bench.table.row("closed loop, one /exec a step, 100 neurons", "/s", peers, ours, own, NA if share is None else "%.0f %%" % (100 * share),
                    "≥ 85 % in-process", None if share is None else share >= 0.85)


# Two lists, because a script of NEST Server may have no longer range.
SPIKES = (
    "nest.set(local_num_threads=1)\n"
    'g = nest.Create("spike_generator", 1, {"spike_times": [1.0 + i for i in range(500)] + [501.0 + i for i in range(500)]})\n'
    'p = nest.Create("parrot_neuron", 1000)\nr = nest.Create("spike_recorder")\n'
    "nest.Connect(g, p)\nnest.Connect(p, r)\nnest.Simulate(1005.0)\n")
# `a` is written first: the moment at which the arrays were there (one clock for all processes of a machine)
FETCH = 'e = nest.NodeCollection([1002]).events\na = time.time()'


def spikes(bench):
    def fetch(target, accept=None, source=FETCH):
        """(seconds to the first byte, to the last, bytes), all from when the arrays were there."""
        connection = target.connect()
        try:
            response = target.send(connection, "POST", "/exec", {"source": source, "return": ["a", "e"]},
                                   {"Accept": accept} if accept else ())
            pieces = [response.read(1)]
            first = time.time()
            buffer = bytearray(1 << 20)
            while size := response.readinto(buffer):
                pieces.append(bytes(buffer[:size]))
            last = time.time()
        finally:
            connection.close()
        body = b"".join(pieces)
        if response.status != 200:
            raise Unavailable("answered %d: %s" % (response.status, body[:200].decode("utf-8", "replace")))
        return first, last, body

    def json_of(target):
        target.reset()
        target.run_script(SPIKES)
        growth = Growth(target.pid if target is bench.ours else target.worker())
        results = []
        for number in range(bench.n(5, 3) if target is bench.ours else bench.n(2, 1)):
            first, last, body = fetch(target, source=fetch_source(bench, target))
            if number == 0:
                data = json.loads(body)["data"]
                if len(data["e"]["times"]) < 990_000 or len(data["e"]["senders"]) != len(data["e"]["times"]):
                    raise Unavailable("the answer has %d spikes" % len(data["e"]["times"]))
                del data
            began = float(re.search(rb'"a":\s*([\d.]+)', body)[1])
            results.append(((first - began) * 1e3, (last - began) * 1e3))
        return statistics.median(f for f, _ in results), statistics.median(l for _, l in results), growth.mb()

    def cbor_of(target):
        results = []
        for _ in range(bench.n(5, 3)):
            _, last, body = fetch(target, "application/cbor", fetch_source(bench, target))
            began = cbor.loads(body)["data"]["a"]
            results.append((last - began) * 1e3)
        return statistics.median(results)

    peers = [bench.guarded(t, json_of) or (None, None, None) for t in bench.peers]
    ours = bench.guarded(bench.ours, json_of) or (None, None, None)
    totals = [p[1] for p in peers]
    factor = min((t / ours[1] for t in totals[:1] if t and ours[1]), default=None)
    bench.table.row("10^6 spike events as JSON, whole answer", "ms", totals, ours[1], ratio=ratios(totals, ours[1]), goal="≥ 20×",
                    ok=None if factor is None else factor >= 20)
    bench.table.row("   first byte", "ms", [p[0] for p in peers], ours[0], goal="≤ 50 ms", ok=None if ours[0] is None else ours[0] <= 50)
    bench.table.row("   memory the server's process grows by", "MB", [p[2] for p in peers], ours[2], goal="≤ 32 MB",
                    ok=None if ours[2] is None else ours[2] <= 32)
    binary = bench.guarded(bench.ours, cbor_of)
    factor = totals[0] / binary if totals[0] and binary else None
    bench.table.row("   as CBOR, beside their JSON", "ms", ("–", "–"), binary, ratio=ratios(totals, binary), goal="≥ 60×",
                    ok=None if factor is None else factor >= 60)
    for target in (bench.ours, *bench.peers):
        bench.guarded(target, lambda t: t.reset())


def fetch_source(bench, target):
    return ("import time\n" if target is bench.ours else "") + FETCH


# engine: script, result, goal of a new session (ms), of its memory (MB)
ENGINES = (("nest", "NEST", 'n = nest.Create("iaf_psc_alpha")\nr = n.get("V_m")', "r", 50, 20),
           ("neuron", "NEURON", 's = h.Section(name="s")\nr = s.L', "r", 30, 5),
           ("jaxley", "Jaxley", "r = [jx.__version__, jx.Compartment.__name__]", "r", 100, None))
# JAX compiles some 40 small programs for it, in a session as anywhere else
COMPARTMENT = 'c = jx.Compartment()\nr = float(c.nodes["radius"].iloc[0])'


def sessions(bench):
    restarts = [bench.guarded(t, lambda t: t.restart_s() * 1e3) for t in bench.peers]
    for engine, title, source, returns, goal, _ in ENGINES:
        def measure(target, engine=engine, source=source, returns=returns):
            connection, taken = target.connect(), []
            try:
                for number in range(-2, bench.n(20, 8)):
                    time.sleep(0.05)
                    begin = time.perf_counter()
                    session = target.session(engine, connection)
                    target.session_exec(session, source, returns, connection)
                    if number >= 0:
                        taken.append(time.perf_counter() - begin)
                    target.end_session(session, connection)
            finally:
                connection.close()
            return statistics.median(taken) * 1e3

        ours = bench.guarded(bench.ours, measure)
        peers = restarts if engine == "nest" else ("–", "–")
        bench.table.row("new isolated %s session to first answer" % title, "ms", peers, ours,
                        ratio=ratios(restarts, ours) if engine == "nest" else "", goal="≤ %d ms" % goal,
                        ok=None if ours is None else ours <= goal)

    def compartment(target):
        session = target.session("jaxley")
        try:
            begin = time.perf_counter()
            target.session_exec(session, COMPARTMENT, "r")
            return (time.perf_counter() - begin) * 1e3
        finally:
            target.end_session(session)

    plain = "import os\nos.environ['JAX_PLATFORMS'] = 'cpu'\nimport jaxley as jx\nb = time.perf_counter()\n%s\nresult = time.perf_counter() - b"
    own = bench.guarded(bench.inside, lambda t: t.do(plain % COMPARTMENT) * 1e3)
    bench.table.row("   Jaxley with its first compartment (JAX compiles)", "ms", ours=bench.guarded(bench.ours, compartment), inside=own)


def memory(bench):
    workers = [bench.guarded(t, lambda t: rss(t.worker())) for t in bench.peers]
    for engine, title, source, returns, _, goal in ENGINES:
        if goal is None:
            continue

        def measure(target, engine=engine, source=source, returns=returns):
            warm = target.session(engine)
            target.session_exec(warm, source, returns)
            target.end_session(warm)
            time.sleep(0.5)
            before = set(children(target.pid))
            session = target.session(engine)
            target.session_exec(session, source, returns)
            time.sleep(0.5)
            new = [pid for pid in set(children(target.pid)) - before
                   if b"myelin.worker" in pathlib.Path("/proc/%d/cmdline" % pid).read_bytes()]
            values = [kib(pid, "smaps_rollup", "Private_Dirty") for pid in new]
            target.end_session(session)
            if not values or None in values:
                raise Unavailable("the memory of another user's process can't be read; run it as root")
            return sum(values)

        ours = bench.guarded(bench.ours, measure)
        peers = workers if engine == "nest" else ("–", "–")
        bench.table.row("private memory of an idle %s session" % title, "MB", peers, ours, ratio=ratios(peers, ours) if engine == "nest" else "",
                        goal="≤ %d MB" % goal, ok=None if ours is None else ours <= goal)
    masters = [bench.guarded(t, lambda t: rss(t.pid)) for t in bench.peers]
    own = rss(bench.ours.pid)
    bench.table.row("memory of the server itself", "MB", masters, own, goal="≤ 40 MB", ok=None if own is None else own <= 40)


BUSY = ('nest.set(rng_seed=3)\nn = nest.Create("iaf_psc_alpha", 1000)\np = nest.Create("poisson_generator", 1, {"rate": 8000.0})\n'
        "nest.Connect(p, n, syn_spec={\"weight\": 10.0})\nnest.Simulate(%s)\n")


def busy(bench):
    names = ["b%d" % i for i in range(1, 9)]

    def blocked(target):
        """The answer's time while one simulation runs there."""
        runner = threading.Thread(target=lambda: bench.guarded(target, lambda t: (t.reset(), t.run_script(BUSY % "4000.0"))))
        runner.start()
        time.sleep(0.3)
        begin = time.perf_counter()
        target.ask("GET", "/")
        taken = time.perf_counter() - begin
        runner.join()
        return taken * 1e3

    def measure(target):
        def simulate(name):
            with contextlib.suppress(Unavailable, OSError, http.client.HTTPException, ValueError):
                target.run_script(BUSY % "1e8", prefix="/s/" + name)  # ended by DELETE

        runners = [threading.Thread(target=simulate, args=(name,), daemon=True) for name in names]
        found = {}
        try:
            for runner in runners:
                runner.start()
            deadline = time.monotonic() + 60
            while True:
                listed = json.loads(target.ask("GET", "/v1/sessions", None, target.bearer))["sessions"]
                found = {s["name"]: s for s in listed if s["name"] in names}
                if len(found) == 8 and all(s["state"] == "busy" and s.get("progress", {}).get("done") is not None for s in found.values()):
                    break
                if time.monotonic() > deadline:
                    raise Unavailable("the 8 simulations did not begin: %s" % {n: s["state"] for n, s in found.items()})
                time.sleep(0.2)
            return timed_calls(target, "GET", "/", None, bench.n(1000, 300), 0.004)
        finally:
            for session in found.values():
                with contextlib.suppress(Unavailable, OSError):
                    target.end_session(session["id"])
            for runner in runners:
                runner.join(30)

    times = bench.guarded(bench.ours, measure)
    peers = [bench.guarded(t, blocked) for t in bench.peers]
    ours = p99(times) * 1e3 if times else None
    bench.table.row("GET / p99 while 8 sessions simulate (peers: one)", "ms", peers, ours, ratio="blocked" if any(peers) else "",
                    goal="≤ 20 ms", ok=None if ours is None else ours <= 20)
    if times:
        bench.table.note("median %.3f ms, worst of %d %.1f ms" % (statistics.median(times) * 1e3, len(times), max(times) * 1e3))


NETWORK = """
nest.ResetKernel()
nest.set(rng_seed=12345, local_num_threads=1)
e = nest.Create("iaf_psc_alpha", 8000)
i = nest.Create("iaf_psc_alpha", 2000)
p = nest.Create("poisson_generator", 1, {"rate": 12000.0})
r = nest.Create("spike_recorder")
nest.Connect(p, e + i, syn_spec={"weight": 20.0})
nest.Connect(e, e + i, {"rule": "fixed_indegree", "indegree": 40}, {"weight": 20.0, "delay": 1.5})
nest.Connect(i, e + i, {"rule": "fixed_indegree", "indegree": 10}, {"weight": -100.0, "delay": 1.5})
nest.Connect(e[:50], r)
nest.Simulate(50.0)
"""
RUN = "b = time.perf_counter()\nnest.Simulate(%r)\nresult = [time.perf_counter() - b, r.n_events]"


def simulation(bench):
    pairs = bench.n(7, 3)
    if not bench.inside:
        bench.table.row("simulation speed inside a session", goal="≥ 97 %", ok=None)
        return
    plain = lambda source: bench.inside.do(source)

    def measure(target):
        session = target.session("nest")
        try:
            inside = lambda source: target.session_exec(session, "import time\n" + source, ["result"])["result"]
            plain(NETWORK)
            inside(NETWORK + "result = 0\n")
            span = 200.0
            # one run of both chooses the length: about 2 s
            span = round(span * (1.2 if bench.quick else 2.0) / plain(RUN % span)[0], -1)
            plain(NETWORK)
            inside(NETWORK + "result = 0\n")
            taken = [], []
            for number in range(pairs):
                order = (plain, inside) if number % 2 == 0 else (inside, plain)
                results = {f: f(RUN % span) for f in order}
                if results[plain][1] != results[inside][1]:
                    raise Unavailable("the two runs differ: %s spikes" % results)
                taken[0].append(results[plain][0])
                taken[1].append(results[inside][0])
            return taken
        finally:
            target.end_session(session)

    taken = bench.guarded(bench.ours, measure)
    own, ours = (statistics.median(t) for t in taken) if taken else (None, None)
    share = statistics.median(a / b for a, b in zip(*taken)) if taken else None  # pair by pair: the machine's speed drifts
    bench.table.row("simulation inside a session, against a script", "s", ("–", "–"), ours, own, NA if share is None else "%.1f %%" % (100 * share),
                    "≥ 97 %", None if share is None else share >= 0.97)
    if taken:
        bench.table.note("the ratio is the median of the pairs': %s" % " ".join("%.2f/%.2f" % pair for pair in zip(*taken)))


def requests(bench):
    what = "GET / a second at 64 connections"
    if not shutil.which("wrk"):
        bench.table.row(what, goal="≥ 0.8× Beast", ok=None)
        bench.table.note("skipped: wrk is not installed (requirements/debian-bench.txt)")
        return
    try:
        minimal = bench.minimal_server()

        def load(host, port, seconds):
            done = subprocess.run(["wrk", "-t1", "-c64", "-d%ds" % seconds, "-H", "NESTServerAuth: " + TOKEN,
                                   "http://%s:%d/" % (host, port)], capture_output=True, text=True)
            found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
            if not found or "Non-2xx" in done.stdout:
                raise Unavailable("wrk: " + (done.stderr or done.stdout).strip()[-200:])
            return float(found[1])

        rates = [], []
        for _ in range(bench.n(5, 2)):
            rates[0].append(load(*bench.ours.address, bench.n(3, 1)))
            rates[1].append(load(*minimal.address, bench.n(3, 1)))
        ours, theirs = (statistics.median(r) for r in rates)
        peers = [bench.guarded(t, lambda t: load(*t.address, 2)) for t in bench.peers]
        bench.table.row(what, "/s", peers, ours, ratio="%.2f× Beast" % (ours / theirs), goal="≥ 0.8× Beast", ok=ours / theirs >= 0.8)
        bench.table.note("the minimal Beast server: %.0f /s" % theirs)
    except Unavailable as error:
        bench.table.row(what, goal="≥ 0.8× Beast", ok=None)
        bench.table.note(str(error))


GROUPS = (("GET /", root), ("GetKernelStatus", kernel_status), ("Create", create), ("/exec a=1", exec_small), ("ids of 10,000 nodes", ids),
          ("columns of 10,000 connections", columns), ("closed loop", closed_loop), ("10^6 spike events JSON CBOR", spikes),
          ("new isolated session", sessions), ("memory of an idle session, server", memory), ("p99 while 8 sessions simulate", busy),
          ("simulation speed inside a session", simulation), ("requests a second", requests))
