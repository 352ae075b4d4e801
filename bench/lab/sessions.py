"""Rows of sessions: branches, what-ifs, closed loops, streams, and what idle ones cost."""

import json
import pathlib
import resource
import selectors
import socket
import statistics
import threading
import time

from myelin.client import cbor
from myelin.client.transport import Transport
from myelin.client.websocket import Closed, WebSocket

from .nest_server import LOOP_BUILD, current, exec_steps
from .processes import Unavailable, children, cpu_s, kib, private, rss
from .table import NA, rate
from .targets import PATIENCE_S, TOKEN

# Excitatory and inhibitory neurons, each with 100 synapses onto it; the rate in Hz of what drives them
BALANCED = """
nest.ResetKernel()
nest.set(rng_seed=4711, local_num_threads=1)
e = nest.Create("iaf_psc_alpha", %d)
i = nest.Create("iaf_psc_alpha", %d)
p = nest.Create("poisson_generator", 1, {"rate": %r})
r = nest.Create("spike_recorder")
nest.Connect(p, e + i, syn_spec={"weight": 20.0, "delay": 1.5})
nest.Connect(e, e + i, {"rule": "fixed_indegree", "indegree": 80}, {"weight": 20.0, "delay": 1.5})
nest.Connect(i, e + i, {"rule": "fixed_indegree", "indegree": 20}, {"weight": -100.0, "delay": 1.5})
nest.Connect(e + i, r)
"""
NETWORK = BALANCED % (800, 200, 8000.0)


def open_socket(target, path):
    host, port = target.address
    return WebSocket(Transport("http://%s:%d" % (host, port), TOKEN, None, PATIENCE_S), path)


def workers(target):
    """Processes of sessions; their zygotes are older, and among them too."""
    found = set()
    for pid in children(target.pid):
        try:
            if b"myelin.worker" in pathlib.Path("/proc/%d/cmdline" % pid).read_bytes():
                found.add(pid)
        except OSError:
            pass
    return found


def branch(target, session, connection, count=1):
    made = json.loads(target.ask("POST", "/v1/sessions/%s/branch" % session, {"count": count}, target.bearer, connection))
    return [one["id"] for one in made["sessions"]]


def branches(bench):
    """(ms from the request to the first answer, ms of the request alone, ms each of eight in one request, MB, MB after 200 ms)"""
    many = 8

    def measure(target):
        connection, session = target.connect(), target.session("nest")
        whole, alone, together, memory, later = [], [], [], [], []
        try:
            known = target.session_exec(session, NETWORK + "nest.Simulate(100.0)\nv = e[:1].get('V_m')", ["v"], connection)["v"]
            for number in range(-2, bench.n(40, 10)):
                time.sleep(0.05)
                before = workers(target) if number >= 0 else set()
                begin = time.perf_counter()
                made, = branch(target, session, connection)
                asked = time.perf_counter()
                answered = target.session_exec(made, "v = e[:1].get('V_m')", ["v"], connection)["v"]
                end = time.perf_counter()
                if answered != known:
                    raise Unavailable("a branch is not the session: %r, %r" % (answered, known))
                if number >= 0:
                    whole.append((end - begin) * 1e3)
                    alone.append((asked - begin) * 1e3)
                    new = [private(pid) for pid in workers(target) - before]
                    if None not in new:
                        memory.append(sum(new))
                if number >= 0 and number % 8 == 0:
                    target.session_exec(made, "nest.Simulate(200.0)\nv = 0", ["v"], connection)
                    new = [private(pid) for pid in workers(target) - before]
                    if None not in new:
                        later.append(sum(new))
                target.end_session(made, connection)
            for _ in range(bench.n(5, 2)):
                time.sleep(0.05)
                begin = time.perf_counter()
                all_of_them = branch(target, session, connection, many)
                together.append((time.perf_counter() - begin) * 1e3 / many)
                for made in all_of_them:
                    target.end_session(made, connection)
        finally:
            target.end_session(session)
            connection.close()
        return whole, alone, together, memory, later

    found = bench.guarded(bench.ours, measure)
    middle = lambda values: statistics.median(values) if values else None
    whole, alone, together, memory, later = (middle(values) for values in found) if found else (None,) * 5
    bench.table.row("a branch, 1,000 neurons: to its first answer", "ms", ours=whole, goal="≤ 40 ms", ok=None if whole is None else whole <= 40)
    if found:
        bench.table.note("fastest of %d: %.1f ms, slowest %.1f ms" % (len(found[0]), min(found[0]), max(found[0])))
    bench.table.row("   the request alone", "ms", ours=alone)
    bench.table.row("   each of %d in one request" % many, "ms", ours=together)
    bench.table.row("   its private memory, after its first answer", "MB", ours=memory, goal="≤ 15 MB", ok=None if memory is None else memory <= 15)
    bench.table.row("   its private memory, after 200 ms more", "MB", ours=later)
    if found and not found[3]:
        bench.table.note("the memory of another user's process can't be read; run it as root")


def what_if(bench):
    """One network, settled for 1 s, goes on in 100 ways; against 100 scripts that each build and settle it."""
    runs, full_runs = bench.n(100, 20), bench.n(6, 2)
    rates = [8000.0 + 20.0 * number for number in range(runs)]
    change = "p.rate = %r\nnest.Simulate(200.0)\nresult = int(r.n_events)"
    settle = "nest.Simulate(1000.0)\n"
    checked = [number * runs // full_runs for number in range(full_runs)]  # spread over the rates, and over the time
    full, counts = [], {}

    def full_run(target, number):
        begin = time.perf_counter()
        counts[number] = target.do(NETWORK + settle + change % rates[number])
        full.append(time.perf_counter() - begin)

    def measure(target):
        """(seconds of all, without those of the full runs in between; of settling; of each part of a what-if)"""
        connection, parts = target.connect(), []
        begin = time.perf_counter()
        session = target.session("nest", connection)
        try:
            target.session_exec(session, NETWORK + settle, [], connection)
            settled = time.perf_counter() - begin
            for number in range(runs):
                if number in checked:
                    bench.guarded(bench.inside, lambda t: full_run(t, number))
                begin = time.perf_counter()
                made, = branch(target, session, connection)
                branched = time.perf_counter()
                spikes = target.session_exec(made, change % rates[number], ["result"], connection)["result"]
                ran = time.perf_counter()
                target.end_session(made, connection)
                parts.append((branched - begin, ran - branched, time.perf_counter() - ran))
                if counts.get(number, spikes) != spikes:
                    raise Unavailable("NOT THE SAME: run %d has %d spikes in a branch, %d in a full run" % (number, spikes, counts[number]))
            return settled + sum(map(sum, parts)), settled, [statistics.median(part) for part in zip(*parts)]
        finally:
            target.end_session(session)
            connection.close()

    ours = bench.guarded(bench.ours, measure)
    own = statistics.median(full) * runs if full else None
    factor = own / ours[0] if own and ours else None
    bench.table.row("%d what-ifs of 200 ms after 1 s settled" % runs, "s", ours=ours[0] if ours else None, inside=own,
                    ratio=NA if factor is None else "%.1f×" % factor, goal="≥ 4×" if runs == 100 else "", ok=None if factor is None or runs < 100 else factor >= 4)
    if factor:
        bench.table.note("in-process: %d full runs measured in between, median %.2f s, times %d; here: settling %.2f s once, then branch %.3f s, "
                         "run %.3f s, end %.3f s; same spikes in all compared" % (len(full), own / runs, runs, ours[1], *ours[2]))


STEP = 'n.set(I_e=next(currents))\nnest.Simulate(1.0)\nv = n.get("V_m")'
LOW_STEP = ('a.llapi_set_nc_status(n._datum, [{"I_e": next(currents)}])\nnest.Simulate(1.0)\nv = a.llapi_get_nc_status(n._datum, "V_m")')


def loop(bench):
    """Set a current of 100 neurons, advance 1 ms, read 100 voltages: one message each way."""
    rounds, count, peer_count = bench.n(8, 3), bench.n(200, 100), bench.n(15, 8)
    ids = list(range(1, 101))

    def block(socket_, offset):
        taken = []
        for i in range(-10, count):
            begin = time.perf_counter()
            socket_.send(json.dumps({"set": [{"nodes": ids, "params": {"I_e": current(offset + i)}}], "advance": 1.0,
                                     "get": [{"nodes": ids, "keys": ["V_m"]}]}))
            answer = json.loads(socket_.receive())
            if i >= 0:
                taken.append(time.perf_counter() - begin)
            if len(answer.get("get", [{}])[0].get("V_m", ())) != 100:
                raise Unavailable("the loop answered %s" % str(answer)[:200])
        return taken

    targets = [t for t in bench.peers if t and bench.guarded(t, lambda t: (t.reset(), t.run_script(LOOP_BUILD))) is not None]
    taken = {id(t): [] for t in targets}
    session = bench.guarded(bench.ours, lambda t: t.session("nest"))
    opened = None
    if session:
        bench.guarded(bench.ours, lambda t: t.session_exec(session, LOOP_BUILD, []))
        opened = bench.guarded(bench.ours, lambda t: open_socket(t, "/v1/sessions/%s/loop" % session))
    if bench.inside:
        bench.inside.do("nest.ResetKernel()\nimport itertools, nest.nestkernel_api as a\n" + LOOP_BUILD +
                        "currents = itertools.cycle([300.0 + i % 997 * 0.125 for i in range(997)])\n"
                        "high, low = (compile(s, '<step>', 'exec') for s in (" + repr(STEP) + ", " + repr(LOW_STEP) + "))\n")
    ours, inner, low = [], [], []
    try:
        for number in range(rounds):
            for target in list(targets):
                times = bench.guarded(target, lambda t: exec_steps(t, peer_count, number * count))
                if times is None:
                    targets.remove(target)
                else:
                    taken[id(target)] += times
            if opened:
                times = bench.guarded(bench.ours, lambda t: block(opened, number * count))
                if times is None:
                    opened.close()
                    opened = None
                else:
                    ours += times
            if bench.inside:
                inner += bench.inside.do("result = times(lambda: exec(high), %d)" % count)
                low += bench.inside.do("result = times(lambda: exec(low), %d)" % count)
    finally:
        if opened:
            opened.close()
        if session:
            bench.guarded(bench.ours, lambda t: t.end_session(session))
    peers = [rate(taken.get(id(t))) if t else None for t in bench.peers]
    rates = rate(ours), rate(inner)
    share = rates[0] / rates[1] if all(rates) else None
    bench.table.row("closed loop, a WebSocket message a step", "/s", peers, *rates, NA if share is None else "%.0f %%" % (100 * share),
                    "≥ 90 % in-process", None if share is None else share >= 0.9)
    if low:
        bench.table.note("peers: the same by /exec. In-process by NEST's low-level calls, as the session does it: %.0f /s" % rate(low))


# The hardest case: next to nothing but spikes
PARROTS = """
nest.ResetKernel()
nest.set(local_num_threads=1)
g = nest.Create("spike_generator", 1, {"spike_times": [1.0 + i for i in range(1000)]})
p = nest.Create("parrot_neuron", 1000)
r = nest.Create("spike_recorder")
nest.Connect(g, p)
nest.Connect(p, r)
"""
# As in research: 2,500 neurons with their inhibition weakened, so that they fire often
ACTIVE = BALANCED % (2000, 500, 20000.0)
ACTIVE_MS = 1850.0  # a million spikes
HAND_OUT = ("import time, nest.nestkernel_api as a\nb = time.perf_counter()\nx = a.llapi_get_nc_status(r._datum, 'events')\n"
            "took = time.perf_counter() - b\nn = len(x['times'])\ndel x\n")


class Follower(threading.Thread):
    """Reads all of a stream of spikes as CBOR, and looks at it later."""

    def __init__(self, target, session):
        super().__init__(daemon=True)
        self.socket = open_socket(target, "/v1/sessions/%s/stream?topics=spikes&format=cbor" % session)
        self.messages, self.last = [], 0.0
        self.start()

    def run(self):
        try:
            while True:
                self.messages.append(self.socket.receive())
                self.last = time.perf_counter()
        except (Closed, OSError):
            pass

    def spikes(self):
        return sum(len(event["times"]) for event in map(cbor.loads, list(self.messages)) if event.get("topic") == "spikes")

    def close(self):
        self.socket.close()
        self.join(5)


def stream(bench):
    def measure(target, network, span):
        """Median seconds: without a stream, with one, of handing out; the pairs; how much later the last spike was here."""
        connection = target.connect()
        pairs, hands, lags, events = [], [], [], 0
        sessions = [target.session("nest", connection) for _ in range(2)]
        follower = None

        def run(session):
            target.session_exec(session, network, [], connection)
            begin = time.perf_counter()
            target.session_exec(session, "nest.Simulate(%r)" % span, [], connection)
            end = time.perf_counter()
            return end - begin, end

        try:
            for number in range(-1, bench.n(7, 3)):
                quiet = run(sessions[0]) if number % 2 else None
                follower = Follower(target, sessions[1])
                streamed = run(sessions[1])
                quiet = quiet or run(sessions[0])
                found = target.session_exec(sessions[0], HAND_OUT, ["took", "n"], connection)
                deadline = time.monotonic() + 30
                while (seen := follower.spikes()) < found["n"]:
                    if time.monotonic() > deadline:
                        raise Unavailable("the stream had %d of %d spikes" % (seen, found["n"]))
                    time.sleep(0.1)
                if seen != found["n"]:
                    raise Unavailable("the stream had %d spikes, the recorder %d" % (seen, found["n"]))
                if number >= 0:
                    pairs.append((quiet[0], streamed[0]))
                    hands.append(found["took"])
                    lags.append(follower.last - streamed[1])
                    events = found["n"]
                follower.close()
                target.end_session(sessions[1], connection)  # a session that is followed once is followed on
                sessions[1] = target.session("nest", connection)
        finally:
            if follower:
                follower.close()
            for session in sessions:
                target.end_session(session)
            connection.close()
        return pairs, statistics.median(hands), statistics.median(lags), events

    for title, network, span, judged in (("a network", ACTIVE, ACTIVE_MS, True), ("parrots", PARROTS, 1005.0, False)):
        found = bench.guarded(bench.ours, lambda t: measure(t, network, span))
        quiet = streamed = share = None
        if found:
            pairs, hand, lag, events = found
            quiet, streamed = (statistics.median(side) for side in zip(*pairs))
            share = statistics.median(a / (b - hand) for a, b in pairs)  # pair by pair: the machine's speed drifts
        bench.table.row("10^6 spikes streamed from %s" % title, "s", ours=streamed, inside=quiet, ratio=NA if share is None else "%.1f %%" % (100 * share),
                        goal="≥ 97 %" if judged else "", ok=None if share is None or not judged else share >= 0.97)
        if found:
            bench.table.note("%.2f million; in-process: the same session without a stream; NEST hands them out in %.3f s, the ratio is beyond that; "
                             "last spike here %.0f ms after the call's answer; pairs %s" % (
                                 events / 1e6, hand, lag * 1e3, " ".join("%.2f/%.2f" % pair for pair in pairs)))


def sockets(bench):
    count, window = 10_000, bench.n(60, 10)

    def measure(target):
        least = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least[1], least[1]))
        if least[1] < count + 256:
            raise Unavailable("this user may open %d files, too few for %d connections (ulimit -Hn)" % (least[1], count))
        session = target.session("nest")
        target.session_exec(session, "a = 1", ["a"])
        before = rss(target.pid)
        opened, selector = [], selectors.DefaultSelector()
        try:
            begin = time.perf_counter()
            for _ in range(count):
                one = open_socket(target, "/v1/sessions/%s/stream" % session)
                one.settimeout(0.002)
                selector.register(one._socket, selectors.EVENT_READ, one)
                opened.append(one)
            took = time.perf_counter() - begin
            read_until(selector, time.monotonic() + 2)
            cpu, began = cpu_s(target.pid), time.monotonic()
            read_until(selector, began + window)
            used = (cpu_s(target.pid) - cpu) / (time.monotonic() - began)
            return rss(target.pid), before, used, took
        finally:
            selector.close()
            for one in opened:
                one._socket.close()

    found = None
    with bench.another("sockets") as server:
        found = bench.guarded(server, measure)
    memory, before, used, took = found or (None,) * 4
    bench.table.row("10,000 idle WebSockets: the server's memory", "MB", ours=memory, goal="≤ 256 MB", ok=None if memory is None else memory <= 256)
    bench.table.row("   its cpu, %d s, pings included" % window, "%", ours=None if used is None else used * 100, goal="< 2 %",
                    ok=None if used is None else used < 0.02)
    if found:
        bench.table.note("%.1f MB without them; opened in %.1f s" % (before, took))


def read_until(selector, deadline):
    """Reads what comes and answers pings."""
    while (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            try:
                while True:
                    key.data.receive()
            except socket.timeout:
                pass
            except Closed as error:
                raise Unavailable("the server closed a WebSocket: %s" % error) from None


IDLE = (("nest", 50, 'n = nest.Create("iaf_psc_alpha")\nr = n.get("V_m")'), ("neuron", 50, 's = h.Section(name="s")\nr = s.L'))


def idle(bench):
    def measure(target):
        connection = target.connect()
        try:
            begin = time.perf_counter()
            for engine, count, source in IDLE:
                for _ in range(count):
                    target.session_exec(target.session(engine, connection), source, ["r"], connection)
            took = time.perf_counter() - begin
        finally:
            connection.close()
        time.sleep(3)
        pids = [target.pid, *children(target.pid)]
        cpu, began = sum(map(cpu_s, pids)), time.monotonic()
        time.sleep(bench.n(10, 3))
        used = (sum(map(cpu_s, pids)) - cpu) / (time.monotonic() - began)
        shares, alone = [kib(pid, "smaps_rollup", "Pss") for pid in pids], [private(pid) for pid in pids]
        # An init that is an empty shell has no memory to be listed.
        return sum(s or 0 for s in shares), sum(a or 0 for a in alone), used, took, len(pids), shares.count(None)

    found = None
    with bench.another("idle", "\n[limits]\nmax_sessions_per_user = 200\n") as server:
        found = bench.guarded(server, measure)
    peers = [bench.guarded(t, lambda t: sum(filter(None, map(private, [t.pid, *children(t.pid)]))) * 100) for t in bench.peers]
    total, alone, used, took, processes, unread = found or (None,) * 6
    if unread and unread > 110:
        bench.table.note("the memory of another user's process can't be read; run it as root")
        total = None
    bench.table.row("100 idle sessions, 50 NEST, 50 NEURON, together", "MB", peers, total,
                    ratio=" / ".join(NA if p is None or not total else "%.0f×" % (p / total) for p in peers),
                    goal="≤ 1,500 MB", ok=None if total is None else total <= 1500)
    if found:
        bench.table.note("proportional share (PSS) of all %d processes, the server and all zygotes included; private alone %.0f MB; opened in %.1f s; "
                         "cpu while idle %.1f %%; peers: private memory of one, times 100" % (processes, alone, took, used * 100))


GROUPS = (("sessions: a branch", branches), ("sessions: 100 what-ifs", what_if), ("sessions: closed loop by WebSocket", loop),
          ("sessions: 10^6 spikes streamed", stream), ("sessions: 10,000 idle WebSockets", sockets), ("sessions: 100 idle", idle))
