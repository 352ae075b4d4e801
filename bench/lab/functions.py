"""Rows of functions: run_cell computed by the server beside NEURON in the same minutes, sweeps, pictures, what a token costs."""

import base64
import contextlib
import json
import statistics
import time

from .processes import Unavailable
from .targets import ROOT, FlaskStack, Target

# Both first currents are of FI curves: eleven runs of 500 ms.
FIRST, OTHER = 0.1, 0.15
CELL = {"amp": FIRST}

NEURON = '''
import sys, time
sys.path.insert(0, %r)
from myelin.functions.cell_on_neuron import run_cell_numbers
usual = dict(diam=200, cm=1, el=-70, gl=30, gna=120, gh=10, gk=12, tstop=500, dur=[100, 400], amp=0.1, mhalf=-38.43, hhalf=7.2, mk=7.2, hk=-8,
             nhalf=-81, kn=11, multiply=1, multiply1=1, multiply2=1, seg1=-60, seg2=-61, seg3=-62.5)
def timed(**given):
    processes = given.pop("processes", 1)
    begin = time.perf_counter()
    numbers = run_cell_numbers(dict(usual, **given), %r, processes)
    return time.perf_counter() - begin, numbers["frequencies_Hz"].tolist()
timed()
result = 0
'''


def neuron(bench, script):
    if not getattr(bench, "neuron_ready", False):
        bench.inside.do(NEURON % (str(ROOT / "python"), str(bench.folder)))
        bench.neuron_ready = True
    return bench.inside.do(script)


def timed(bench, count, make, headers=(), path="/v1/functions/myelin.run_cell", target=None):
    """Milliseconds of calls back to back over one connection, each with parameters of its own; and the last answer."""
    target = target or bench.ours
    connection, taken, body = target.connect(), [], b""
    try:
        for number in range(-2, count):
            content = make(number)
            begin = time.perf_counter()
            body = target.ask("POST", path, content, dict(target.bearer, **dict(headers)), connection)
            if number >= 0:
                taken.append((time.perf_counter() - begin) * 1e3)
    finally:
        connection.close()
    return taken, body


def fresh(number, **more):
    """No result is remembered: each asks for another length of run, by less than a step."""
    return {"parameters": dict(CELL, tstop=500 + 1e-6 * (number + 3 + fresh.calls), **more)}


fresh.calls = 0  # of former rounds




def fi_curve(bench):
    table = bench.table
    theirs, cbor, plain, png, cells = [], [], [], [], []
    for _ in range(bench.n(5, 2)):  # in turns, so that a busy moment meets all
        taken, frequencies = neuron(bench, "result = timed(amp=%r)" % FIRST)
        theirs.append(taken * 1e3)
        cbor += timed(bench, 10, fresh, {"Accept": "application/cbor"})[0]
        fresh.calls += 1000
        some, body = timed(bench, 5, fresh)
        plain += some
        fresh.calls += 1000
        ours = json.loads(body)["data"]["frequency"]
        if ours != frequencies:
            raise Unavailable("the FI curves differ: %r, NEURON %r" % (ours, frequencies))
        cells += timed(bench, 5, lambda number: fresh(number, gl=30 + 1e-9 * (number + 3 + fresh.calls)), {"Accept": "application/cbor"})[0]
        fresh.calls += 1000
        png += timed(bench, 5, fresh, {"Accept": "image/png"})[0]
        fresh.calls += 1000
    theirs = statistics.median(theirs)
    for what, values, goal in (("run_cell, FI curve, as CBOR over HTTP", cbor, 75), ("   as JSON", plain, None), ("   of another cell each time, CBOR", cells, None), ("   its picture, PNG", png, 20)):
        value = statistics.median(values)
        table.row(what, "ms", ours=value, inside=theirs, ratio="%.0f×" % (theirs / value),
                  goal="" if goal is None else "≥ %d× NEURON" % goal, ok=None if goal is None else theirs / value >= goal)
    table.note("in-process: run_cell on NEURON, one core; the frequencies are equal. 100× is the goal with 8 lanes (AVX-512)")
    table.note("another cell: with its resting potential, which a run of 1 s without stimulus gives; NEURON's run_cell has no such thing")
    one, two = [], []
    for _ in range(bench.n(5, 2)):
        one.append(neuron(bench, "result = timed(amp=%r)[0]" % OTHER) * 1e3)
        two.append(neuron(bench, "result = timed(amp=%r, processes=2)[0]" % OTHER) * 1e3)
    ratio = statistics.median(one) / statistics.median(two)
    table.row("run_cell on NEURON, FI curve on two cores", "ms", ours=statistics.median(two), inside=statistics.median(one),
              ratio="%.2f×" % ratio, goal="≥ 1.5×", ok=ratio >= 1.5)


def sweep(bench):
    points = 1000
    one = statistics.median(neuron(bench, "result = timed(amp=-0.1)[0]") for _ in range(bench.n(5, 2)))
    grid = [round(-1 + 0.002 * i, 6) for i in range(points)]
    taken = []
    for number in range(bench.n(3, 1)):
        begin = time.perf_counter()
        run = json.loads(bench.ours.ask("POST", "/v1/sweeps", {"function": "myelin.run_cell", "parameters": {"fi": False, "traces": False, "tstop": 500 + 1e-6 * number},
                                                               "grid": {"amp": grid}}, bench.ours.bearer))["id"]
        while json.loads(bench.ours.ask("GET", "/v1/sweeps/" + run, None, bench.ours.bearer))["state"] not in ("done", "failed"):
            time.sleep(0.005)
        taken.append(time.perf_counter() - begin)
    ours = statistics.median(taken)
    bench.table.row("a sweep of 1,000 run_cell, as a kept job", "ms", ours=ours * 1e3, inside=one * points * 1e3,
                    ratio="%.0f×" % (one * points / ours), goal="≥ 200× NEURON", ok=one * points / ours >= 200)
    bench.table.note("in-process: one run on NEURON, times 1,000")


def small(bench):
    table = bench.table
    same = lambda number: {"parameters": {"amp": 0.3, "tstop": 50, "dur": [5, 45]}}  # noqa: E731
    value = statistics.median(timed(bench, bench.n(300, 60), same)[0])
    table.row("a remembered result", "ms", ours=value, goal="≤ 1 ms", ok=value <= 1)


def return_params(bench):
    """By NeuroAPI's route; its server closes each connection, ours is asked in both ways."""
    table = bench.table
    echo = {"function": "return_params", "params": {"params": [1, 2, 3]}}
    with contextlib.closing(FlaskStack(bench.folder)) as flask:
        theirs, ours, kept = [], [], []
        for _ in range(bench.n(10, 3)):  # in turns, so that a busy moment meets all
            for target, taken in ((flask, theirs), (bench.ours, ours)):
                for _ in range(50):
                    begin = time.perf_counter()
                    target.ask("POST", "/api/v1/function", echo)
                    taken.append((time.perf_counter() - begin) * 1e3)
            kept += timed(bench, 50, lambda number: echo, path="/api/v1/function")[0]
    theirs = statistics.median(theirs)
    for what, values in (("return_params by NeuroAPI's route", ours), ("   over one connection", kept)):
        ratio = theirs / statistics.median(values)
        table.row(what, "ms", ours=statistics.median(values), inside=theirs, ratio="%.1f×" % ratio, goal="≥ 3×", ok=ratio >= 3)
    table.note("in-process: Flask. NeuroAPI is in no package registry; this is the same route on the libraries that it uses, in its versions")


class Person(Target):
    """The server as one who signed in sees it."""

    title = "Myelin"

    def __init__(self, server, name, password):
        self.address = server.address
        signed_in = self.ask("POST", "/v1/auth/sign-in", {"username": name, "password": password})
        self.headers = self.bearer = {"Authorization": "Bearer " + json.loads(signed_in)["access_token"]}


def token_cost(bench):
    """The same call signed in and on a server without sign-in, in turns."""
    with bench.another("open", 'auth = "none"\n') as free:
        free.headers = free.bearer = {}
        admin = bench.ours.bearer
        name, password = "bench", base64.b32encode(b"bench-%d" % bench.ours.pid).decode() + "-x7"
        made = json.loads(bench.ours.ask("POST", "/v1/users", {"username": name, "role": "member", "password": password}, admin))
        first = Person(bench.ours, name, password)
        first.ask("POST", "/v1/auth/password", {"old": password, "new": password + "-2"})
        person = Person(bench.ours, name, password + "-2")
        pairs = []
        same = lambda number: {"parameters": {"amp": 0.3, "tstop": 50, "dur": [5, 45]}}  # noqa: E731
        for _ in range(bench.n(40, 10)):
            pairs.append([statistics.median(timed(bench, 25, same, target=target)[0]) for target in (person, free)])
        bench.ours.ask("DELETE", "/v1/users/" + made["id"], None, admin)
    ours, other = (statistics.median(side) for side in zip(*pairs))
    ratio = statistics.median(signed / open_to_all for signed, open_to_all in pairs)  # pair by pair: the machine's speed drifts
    bench.table.row("a call of who signed in, against no sign-in", "ms", ours=ours, inside=other, ratio="%.2f×" % ratio, goal="≤ 1.1×", ok=ratio <= 1.1)
    bench.table.note("in-process: the same call on a server with auth = \"none\"")


def guarded(rows):
    def run(bench):
        bench.guarded(bench.ours, lambda _: rows(bench))

    return run


GROUPS = (("functions: run_cell", guarded(fi_curve)), ("functions: sweep", guarded(sweep)), ("functions: small calls", guarded(small)), ("functions: return_params", guarded(return_params)),
          ("functions: signed in", guarded(token_cost)))
