"""Branches, checkpoints, rewind: exact copies of running sessions, and what they must not share."""

import concurrent.futures
import threading
import time

import pytest

from conftest import Session, wait_until

NETWORK = """
nest.ResetKernel()
nest.set(rng_seed=5, local_num_threads=%d)
n = nest.Create('iaf_psc_alpha', 200, {'I_e': 370.0})
p = nest.Create('poisson_generator', params={'rate': 8000.0})
sr = nest.Create('spike_recorder')
m = nest.Create('voltmeter')
nest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 50}, {'synapse_model': 'stdp_synapse', 'weight': 10.0, 'delay': 1.5})
nest.Connect(p, n, syn_spec={'weight': 5.0, 'delay': 1.5})
nest.Connect(n, sr)
nest.Connect(m, n[:5])
nest.Simulate(100.0)
"""
GO_ON = """
nest.Simulate(60.0)
import hashlib
e, v = sr.get('events'), m.get('events')
h = hashlib.sha256()
for a in (e['senders'], e['times'], v['V_m'], v['times']):
    h.update(a.tobytes())
d = [int(sr.n_events), h.hexdigest()]
"""


def branch(session, count=1, **options):
    answer = session.client.post(session.path + "/branch", dict(options, count=count))
    assert answer.status == 201, answer
    return [attach(session.client, one["id"]) for one in answer.json()["sessions"]]


def attach(client, identity):
    session = Session.__new__(Session)
    session.client, session.id, session.path = client, identity, "/v1/sessions/" + identity
    return session


def end(*sessions):
    for session in sessions:
        session.client.request("DELETE", session.path)


def checkpoint(session, name=None):
    return session.client.post(session.path + "/checkpoints", {"name": name} if name else {})


@pytest.fixture
def client(server):
    return server.client()


@pytest.mark.parametrize("threads", [1, 2])
def test_nest_branches_go_on_to_the_bit(client, threads):
    plain, parent = Session(client, "nest"), Session(client, "nest")
    plain.value(NETWORK % threads, None)
    wanted = plain.value(GO_ON, "d")
    parent.value(NETWORK % threads, None)
    first = branch(parent, 3)
    nested = branch(first[0], 2)
    for session in [*first, *nested, parent]:
        assert session.value(GO_ON, "d") == wanted
    again = branch(first[1])  # after it has run on
    assert again[0].value(GO_ON, "d") == parent.value(GO_ON, "d") == plain.value(GO_ON, "d")
    assert again[0].status().json()["parent"] == first[1].id
    end(plain, parent, *first, *nested, *again)


CELL = """
from neuron import h
h.load_file('stdrun.hoc')
s = h.Section(name='soma')
s.L = s.diam = 20
s.insert('hh')
c = h.IClamp(s(0.5))
c.delay, c.dur, c.amp = 1, 1e9, 0.3
v = h.Vector().record(s(0.5)._ref_v)
h.CVode().active(%d)
h.finitialize(-65)
h.continuerun(20)
"""


@pytest.mark.parametrize("variable_step", [0, 1])
def test_neuron_branches_go_on_to_the_bit(client, variable_step):
    plain, parent = Session(client, "neuron"), Session(client, "neuron")
    for session in (plain, parent):
        # the first variable-step run of a process takes a step more than every later one
        session.value(CELL % variable_step, None)
        session.value(CELL % variable_step, None)
    more = "h.continuerun(60)\nd = list(v)"
    wanted = plain.value(more, "d")
    one, two = branch(parent, 2)
    assert one.value(more, "d") == wanted
    assert two.value(more, "d") == wanted
    assert parent.value(more, "d") == wanted
    assert len(wanted) > 100
    end(plain, parent, one, two)


def test_python_branches_have_the_same_random_numbers(client):
    parent = Session(client, "python")
    parent.value("import random\nimport numpy as np\nrandom.seed(4)\nnp.random.seed(4)\ng = np.random.default_rng(4)\na = [1]", None)
    one, two = branch(parent, 2)
    draw = "d = [random.random(), float(np.random.rand()), float(g.random())]"
    wanted = parent.value(draw, "d")
    assert one.value(draw, "d") == wanted
    one.value("a.append(2)", None)
    assert two.value(draw, "d") == wanted
    assert [s.value("b = a", "b") for s in (parent, one, two)] == [[1], [1, 2], [1]]
    secret = "import secrets, uuid\nd = [secrets.token_hex(8), str(uuid.uuid4())]"
    values = [tuple(s.value(secret, "d")) for s in (parent, one, two)]
    assert len(set(values)) == 3
    end(parent, one, two)


def test_fifty_branches_in_a_row(client):
    parent = Session(client, "nest")
    parent.value(NETWORK % 2, None)
    wanted = None
    for number in range(50):
        (one,) = branch(parent)
        if number % 10 == 0:
            got = one.value(GO_ON, "d")
            wanted = wanted or got
            assert got == wanted
        end(one)
    assert parent.value(GO_ON, "d") == wanted
    end(parent)


def simulating(session, call):
    """The thread of a call that simulates, once it has come beyond 100 ms of the model's time."""
    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: session.status().json().get("progress", {}).get("time_ms", 0) > 100, "progress")
    return thread


def test_a_branch_while_nest_simulates(client):
    """Taken at the next slice: there the call ends as if interrupted, in the session it goes on."""
    plain, parent = Session(client, "nest"), Session(client, "nest")
    for session in (plain, parent):
        session.value(NETWORK % 2, None)
    long = "before = 1\nnest.Simulate(4000.0)\nafter = 1\n" + GO_ON
    result = {}
    thread = simulating(parent, lambda: result.update(d=parent.value(long, "d")))
    (one,) = branch(parent)
    assert parent.status().json()["state"] == "busy"
    # it stands somewhere within the simulation, its globals are kept, and it simulates on
    names, at = one.value("t = nest.biological_time\nk = ['before' in globals(), 'after' in globals()]", ["t", "k"]).values()
    assert 100.0 < at < 4100.0 and names == [True, False]
    thread.join()
    assert result["d"] == plain.value(long, "d")
    one.value("nest.Simulate(4100.0 - nest.biological_time)", None)
    assert one.value(GO_ON, "d") == result["d"]
    end(plain, parent, one)


def test_branches_of_one_request_stand_at_the_same_point(client):
    parent = Session(client, "nest")
    parent.value(NETWORK % 2, None)
    thread = simulating(parent, lambda: parent.exec("nest.Simulate(60000.0)"))
    branches = branch(parent, 4)
    parent.interrupt()
    thread.join()
    at = [one.value("t = nest.biological_time", "t") for one in branches]
    assert at[0] > 100.0 and len(set(at)) == 1, at
    assert len({str(one.value(GO_ON, "d")) for one in branches}) == 1
    end(parent, *branches)


def test_calls_between_branches_of_one_request(client):
    parent = Session(client, "python")
    parent.exec("a = 0")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(parent.exec, "a += 1") for _ in range(30)]
        branches = branch(parent, 6)
        assert all(one.result().status == 200 for one in calls)
    assert len({one.value("b = a", "b") for one in branches}) == 1
    assert parent.value("b = a", "b") == 30
    # also where the call that runs goes on when it is interrupted
    stubborn = """
n = 0
import time
end = time.time() + 60
while not a < 0 and time.time() < end:
    try:
        print('counting', flush=True)
        while True: n += 1
    except KeyboardInterrupt:
        a = -1
"""
    thread = threading.Thread(target=lambda: parent.exec(stubborn))
    thread.start()
    wait_until(lambda: "counting" in client.get(parent.path + "/output").text, "the loop")
    more = branch(parent, 3)
    parent.interrupt()
    thread.join()
    assert len({one.value("b = globals().get('n', 0)", "b") for one in more}) == 1
    assert [one.value("a = globals().get('a')", "a") for one in more] == [-1] * 3
    end(parent, *branches, *more)


@pytest.mark.parametrize("engine, code", [
    ("python", "done = 0\nimport time\nend = time.time() + 4\nwhile time.time() < end: done += 1\nlast = 'reached'"),
    ("neuron", CELL % 0 + "h.continuerun(200000)\nlast = 'reached'"),
])
def test_a_branch_while_others_run(client, engine, code):
    parent = Session(client, engine)
    thread = threading.Thread(target=lambda: parent.exec(code))
    thread.start()
    wait_until(lambda: parent.status().json()["state"] == "busy", "a busy session")
    time.sleep(0.5)
    (one,) = branch(parent)
    assert one.value("k = 'last' in globals()", "k") is False
    if engine == "neuron":
        assert 20 <= one.value("t = h.t", "t") < 200000
        parent.interrupt()
    thread.join()
    end(parent, one)


def test_a_branch_that_was_given_up_is_not_in_the_way(client):
    parent = Session(client, "python")
    deaf = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
end = time.time() + 90
while time.time() < end and not os.path.exists(os.path.expanduser('~/work') + '/hear'): time.sleep(0.05)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
"""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        call = pool.submit(parent.exec, deaf)
        wait_until(lambda: parent.status().json()["state"] == "busy", "a busy session")
        given_up = client.post(parent.path + "/branch", {})
        assert given_up.status == 409 and "within 10 s" in given_up.json()["detail"], given_up
        asked = pool.submit(client.post, parent.path + "/branch", {})
        time.sleep(1)
        assert client.request("PUT", "/v1/files/hear", b"").status in (200, 201, 204)
        assert asked.result().status == 201, asked.result()
        assert call.result().status == 200, call.result()
    client.request("DELETE", "/v1/files/hear")
    end(parent, attach(client, asked.result().json()["sessions"][0]["id"]))


def test_a_branch_outlives_its_session(client):
    parent = Session(client, "nest")
    parent.value(NETWORK % 1, None)
    (one,) = branch(parent)
    (two,) = branch(one)
    wanted = two.value(GO_ON, "d")
    parent.exec("import os\nos._exit(3)")
    wait_until(lambda: parent.status().json()["state"] == "ended", "the end")
    assert "code 3" in parent.status().json()["cause"]["text"]
    assert one.value(GO_ON, "d") == wanted
    (three,) = branch(one)
    one.exec("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    wait_until(lambda: one.status().json()["state"] == "ended", "the end")
    assert "SIGSEGV" in one.status().json()["cause"]["text"]
    assert three.value("nest.Simulate(1.0)\nt = nest.biological_time", "t") == 161.0
    end(two, three)


def test_a_branch_has_its_own_limits(make_server):
    server = make_server(limits={"memory_per_session": "400MiB"})
    client = server.client()
    parent = Session(client, "python")
    parent.value("import numpy as np\na = np.ones(1000)", None)
    (one,) = branch(parent)
    answer = one.exec("b = bytearray(600 << 20)\nb[::4096] = b'x' * len(b[::4096])")
    assert answer.status in (400, 410), answer
    if answer.status == 410:
        assert "memory" in answer.json()["detail"]
    assert parent.value("b = float(a.sum())", "b") == 1000.0


def test_files_of_a_branch_are_its_own(client):
    parent = Session(client, "python")
    parent.value("import os\nos.makedirs('sub', exist_ok=True)\nopen('data', 'w').write('one')\nopen('sub/x', 'w').write('x')\n"
                 "r = open('data'); r.read(1)\nw = open('log', 'w'); w.write('first '); w.flush()\nopen('work/shared', 'w').write('s')\n"
                 "k = open('work/out', 'w'); k.write('a'); k.flush()", None)
    (one,) = branch(parent)
    text = "w.write('%s'); w.flush(); k.write('%s'); k.flush()\nd = [open('data').read(), r.read(), open('log').read(), open('sub/x').read(), open('work/shared').read()]"
    assert one.value(text % ("branch", "b"), "d") == ["one", "ne", "first branch", "x", "s"]
    assert parent.value(text % ("parent", "p"), "d") == ["one", "ne", "first parent", "x", "s"]
    one.value("open('data', 'w').write('two')", None)
    assert parent.value("d = open('data').read()", "d") == "one"
    assert parent.value("d = open('work/out').read()", "d") == "ap"  # the branch's copy is in its directory
    assert one.value("d = open('out').read()", "d") == "ab"
    assert one.value("d = os.getcwd() != '/session/home' and os.environ['HOME'] == os.getcwd()", "d") is True
    end(parent, one)


@pytest.mark.parametrize("code, named", [
    ("import subprocess\nx = subprocess.Popen(['sleep', '100'])", "sleep"),
    ("import socket\nx = socket.socket()", "socket"),
    ("import os\nx = os.pipe()", "pipe"),
    ("import threading, time\nx = threading.Thread(target=time.sleep, args=(100,), daemon=True); x.start()", "thread"),
    ("import mmap\nf = open('m', 'w+b'); f.truncate(4096)\nx = mmap.mmap(f.fileno(), 4096)", "shared memory"),
])
def test_what_can_not_be_shared_is_named(client, code, named):
    session = Session(client, "python")
    session.value(code, None)
    answer = client.post(session.path + "/branch", {})
    assert answer.status == 409 and answer.json()["code"] == "conflict" and named in answer.json()["detail"], answer
    assert session.value("y = 1", "y") == 1  # the session goes on
    end(session)


JAXLEY = """
import random, threading
from typing import NamedTuple
from jaxley.channels import HH
from jaxley.integrate import build_init_and_step_fn
cell = jx.Cell([jx.Branch(jx.Compartment(), ncomp=2)], parents=[-1])
cell.insert(HH())
cell.branch(0).comp(0).record()
cell.to_jax()
init_fn, step_fn = build_init_and_step_fn(cell)
states, params = init_fn([])
inputs, places = {'i': jnp.asarray([0.4])}, {'i': jnp.asarray([0])}
@jax.jit
def forward(states, params):
    return step_fn(states, params, inputs, places, delta_t=0.025)
class Seen(NamedTuple):
    steps: int
    v: object
seen = Seen(0, states['v'])
key = jax.random.key(3)
random.seed(7)
np.random.seed(7)
def advance(n):
    global states, seen, key
    for _ in range(n):
        states = forward(states, params)
    key, _ = jax.random.split(key)
    seen = Seen(seen.steps + n, states['v'])
lock = threading.Lock()
advance(40)
"""
STEP_ON = """
advance(60)
d = [np.asarray(states[name]).tobytes().hex() for name in sorted(states)]
d += [seen.steps, np.asarray(jax.random.uniform(key, (3,))).tobytes().hex(), random.random(), float(np.random.rand())]
"""


def test_jaxley_goes_back_to_its_arrays(client):
    """JAX's threads can't be copied: checkpoints hold what the globals hold, and the session's own process goes on from them."""
    engines = {e["name"]: e for e in client.get("/v1/engines").json()["engines"]}
    session = Session(client, "jaxley", "arrays")
    session.value(JAXLEY, None)
    answer = checkpoint(session, "settled")
    assert answer.status == 201, answer
    c = answer.json()
    assert c["kind"] == "arrays" and c["memory_bytes"] > 1000 and c["evicted"] == []
    assert [one["name"] for one in c["left_out"]] == ["lock"] and "lock" in c["left_out"][0]["why"], c
    wanted = session.value(STEP_ON, "d")
    for _ in range(2):
        session.value("advance(7)\nextra = 1\nSeen.wrong = 1\ncell.set('HH_gNa', 0.3)", None)
        answer = client.post(session.path + "/rewind", {"checkpoint": c["id"]})
        assert answer.status == 200 and answer.json()["id"] == session.id, answer
        left = session.value("k = [n in globals() for n in ('extra', 'lock', 'cell')] + [hasattr(Seen, 'wrong'), type(seen) is Seen]", "k")
        assert left == [False, False, True, False, True]
        assert session.value(STEP_ON, "d") == wanted
    (listed,) = client.get(session.path + "/checkpoints").json()["checkpoints"]
    assert listed["id"] == c["id"] and listed["kind"] == "arrays"
    # A branch is a session of its own, in a process that has compiled nothing yet.
    assert client.post(session.path + "/rewind", {"checkpoint": c["id"]}).status == 200
    (other,) = branch(session)
    assert other.status().json()["parent"] == session.id
    assert other.value(STEP_ON, "d") == wanted == session.value(STEP_ON, "d")
    assert client.request("DELETE", session.path + "/checkpoints/" + c["id"]).status == 204
    assert client.post(session.path + "/rewind", {"checkpoint": c["id"]}).status == 404
    engines = {e["name"]: e for e in client.get("/v1/engines").json()["engines"]}
    assert engines["jaxley"]["saves"] is True and engines["jaxley"]["branches"] is False and "JAX" in engines["jaxley"]["why_not"]
    assert engines["nest"]["saves"] is False and engines["nest"]["branches"] is True and engines["nest"]["why_not"] is None
    end(session, other)


def test_saved_checkpoints_outlive_a_process_that_died(client, server):
    session = Session(client, "jaxley", "mortal")
    session.value("a = jnp.arange(5.0) * 1.5\ntree = {'w': [a, 2]}\nf = jax.jit(lambda x: x + 1)\nb = float(f(a).sum())", None)
    c, unnamed = checkpoint(session, "before").json(), checkpoint(session).json()
    assert session.exec("import os\nos._exit(3)").status == 410
    wait_until(lambda: session.status().json()["state"] == "ended", "the session's end")
    listed = client.get(session.path + "/checkpoints").json()["checkpoints"]
    assert [one["id"] for one in listed] == [c["id"], unnamed["id"]]
    token = client.post("/v1/tokens", {"name": "eve"}).json()["token"]
    for request in (("GET", "/checkpoints", None), ("POST", "/rewind", {"checkpoint": c["id"]}), ("DELETE", "/checkpoints/" + c["id"], None)):
        answer = client.with_token(token).request(request[0], session.path + request[1], json_body=request[2])
        assert answer.status == 404, answer
    assert client.request("DELETE", session.path + "/checkpoints/" + unnamed["id"]).status == 204
    assert client.post(session.path + "/rewind", {"checkpoint": unnamed["id"]}).status == 404
    answer = client.post(session.path + "/rewind", {"checkpoint": c["id"]})
    assert answer.status == 201 and answer.json()["parent"] == session.id and answer.json()["name"] == "mortal", answer
    again = attach(client, answer.json()["id"])
    assert answer.headers["location"] == again.path
    assert again.value("d = [a, tree['w'][0] is a, f(a), b]", "d") == [[0.0, 1.5, 3.0, 4.5, 6.0], True, [1.0, 2.5, 4.0, 5.5, 7.0], 20.0]
    assert [one["id"] for one in client.get(again.path + "/checkpoints").json()["checkpoints"]] == [c["id"]]
    assert client.get(session.path + "/checkpoints").status == 410
    end(again)
    wait_until(lambda: again.status().json()["state"] == "ended", "the session's end")
    assert client.get(again.path + "/checkpoints").status == 410  # deleted: so are its checkpoints


@pytest.mark.parametrize("death, cause", [
    ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "signal"),
    ("import ctypes\nctypes.string_at(0)", "signal"),
    ("import os\nos._exit(3)", "exited"),
])
def test_checkpoints_outlive_a_crash(client, server, death, cause):
    session = Session(client, "nest", "crash")
    session.value(NETWORK % 1, None)
    c, unnamed = checkpoint(session, "settled").json(), checkpoint(session).json()
    wanted = session.value(GO_ON, "d")
    assert session.exec("nest.Simulate(10.0)\n" + death).status == 410
    wait_until(lambda: session.status().json()["state"] == "ended", "the session's end")
    assert session.status().json()["cause"]["code"] == cause
    listed = client.get(session.path + "/checkpoints").json()["checkpoints"]
    assert [one["id"] for one in listed] == [c["id"], unnamed["id"]] and listed[0]["kind"] == "copy"
    before = len(server.processes())
    assert client.request("DELETE", session.path + "/checkpoints/" + unnamed["id"]).status == 204
    wait_until(lambda: len(server.processes()) < before, "the end of its process")
    answer = client.post(session.path + "/rewind", {"checkpoint": c["id"]})
    assert answer.status == 201 and answer.json()["parent"] == session.id and answer.json()["name"] == "crash", answer
    again = attach(client, answer.json()["id"])
    assert again.value("t = nest.biological_time", "t") == 100.0
    assert again.value(GO_ON, "d") == wanted
    assert client.get(session.path + "/checkpoints").status == 410  # they are the new one's
    assert client.post(again.path + "/rewind", {"checkpoint": c["id"]}).status == 200
    assert again.value(GO_ON, "d") == wanted
    (other,) = branch(again)
    end(other)
    before = len(server.processes())
    end(again)
    wait_until(lambda: len(server.processes()) <= before - 2, "the end of both processes")
    assert client.get(again.path + "/checkpoints").status == 410  # deleted: so are its checkpoints


def test_a_checkpoint_outlives_a_deadline_and_short_memory(make_server):
    client = make_server(limits={"memory_per_session": "400MiB"}).client()
    for code, cause in (("import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\ntime.sleep(600)", "deadline"),
                        ("b = bytearray(900 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1", "memory")):
        session = Session(client, "python")
        session.exec("a = [1, 2]")
        c = checkpoint(session).json()
        content = {"source": code, "timeout_s": 1} if cause == "deadline" else {"source": code}
        assert client.post(session.path + "/exec", content).status in (409, 410, 504)
        wait_until(lambda: session.status().json()["state"] == "ended", "the session's end")
        assert session.status().json()["cause"]["code"] == cause
        answers = [client.post(session.path + "/rewind", {"checkpoint": c["id"]}) for _ in range(2)]
        assert [one.status for one in answers] == [201, 410], answers
        assert attach(client, answers[0].json()["id"]).value("b = a", "b") == [1, 2]


def test_saved_checkpoints_count_for_the_budget(make_server):
    client = make_server(limits={"checkpoints": "100MiB"}).client()
    session = Session(client, "jaxley")
    ids = []
    for number in range(3):
        session.value("a = np.full(40 << 17, %d.0)" % number, None)
        answer = checkpoint(session)
        assert answer.status == 201, answer
        ids.append(answer.json()["id"])
    assert [one["id"] for one in answer.json()["evicted"]] == ids[:1]
    assert client.post(session.path + "/rewind", {"checkpoint": ids[1]}).status == 200  # larger than what one frame takes
    assert session.value("d = [a.size, float(a.min()), float(a.max())]", "d") == [40 << 17, 1.0, 1.0]


@pytest.mark.parametrize("body, status", [
    ({"count": 0}, 400), ({"count": 65}, 400), ({"count": "2"}, 400), ({"names": ["a", "b"], "count": 3}, 400), ({"names": 3}, 400),
    ({"number": 1}, 400),
])
def test_wrong_branch_requests(client, body, status):
    session = Session(client, "python")
    assert client.post(session.path + "/branch", body).status == status
    end(session)


def test_names_of_branches(client):
    session = Session(client, "python", "tree")
    one, two = branch(session, 2, names=["left", "right"])
    assert [s.status().json()["name"] for s in (one, two)] == ["left", "right"]
    assert client.post(session.path + "/branch", {"names": ["left"]}).status == 409
    assert branch(session)[0].status().json()["name"] == "tree.1"
    for status in client.get("/v1/sessions").json()["sessions"]:
        if status["parent"] == session.id:
            client.request("DELETE", "/v1/sessions/" + status["id"])
    end(session)


def test_others_can_not_branch_my_session(server, client):
    token = client.post("/v1/tokens", {"name": "mallory"}).json()["token"]
    session = Session(client, "python")
    assert client.with_token(token).post(session.path + "/branch", {}).status == 404
    end(session)


# -- checkpoints ----------------------------------------------------------------------------------------------------------


def test_rewind_keeps_id_and_address(client):
    session = Session(client, "nest", "again")
    session.value(NETWORK % 2, None)
    answer = checkpoint(session, "settled")
    assert answer.status == 201, answer
    c = answer.json()
    assert c["name"] == "settled" and c["session"] == session.id and c["memory_bytes"] > 0 and c["evicted"] == []
    wanted = session.value(GO_ON, "d")
    for _ in range(3):
        session.value("nest.Simulate(30.0)\nx = 1", None)
        answer = client.post(session.path + "/rewind", {"checkpoint": c["id"]})
        assert answer.status == 200 and answer.json()["id"] == session.id and answer.json()["name"] == "again", answer
        assert session.value("k = 'x' in globals()", "k") is False
        assert session.value(GO_ON, "d") == wanted
    assert [one["id"] for one in client.get(session.path + "/checkpoints").json()["checkpoints"]] == [c["id"]]
    assert client.request("DELETE", session.path + "/checkpoints/" + c["id"]).status == 204
    assert client.post(session.path + "/rewind", {"checkpoint": c["id"]}).status == 404
    assert session.value("t = nest.biological_time", "t") == 160.0
    end(session)


def test_a_checkpoint_while_it_simulates_and_rewind_waits_its_turn(client):
    session = Session(client, "nest")
    session.value(NETWORK % 1, None)
    thread = simulating(session, lambda: session.exec("nest.Simulate(3000.0)\nend = 1"))
    answer = checkpoint(session)
    assert answer.status == 201, answer
    thread.join()
    assert client.post(session.path + "/rewind", {"checkpoint": answer.json()["id"]}).status == 200
    k, t = session.value("t = nest.biological_time\nk = 'end' in globals()", ["t", "k"]).values()
    assert 200.0 < t < 3100.0 and k is False
    end(session)


def test_the_oldest_unnamed_checkpoint_goes_first(make_server):
    server = make_server(limits={"checkpoints": "150MiB"})
    client = server.client()
    session = Session(client, "python")
    fill = "import numpy as np\na = np.random.bytes(60 << 20)"
    ids = []
    for name in ("kept", None, None):
        session.value(fill, None)
        answer = checkpoint(session, name)
        assert answer.status == 201, answer
        ids.append(answer.json()["id"])
        evicted = [one["id"] for one in answer.json()["evicted"]]
    session.value(fill, None)
    answer = checkpoint(session)
    evicted = evicted + [one["id"] for one in answer.json()["evicted"]]
    assert ids[1] in evicted and ids[0] not in evicted, (ids, evicted)
    answer = client.post(session.path + "/rewind", {"checkpoint": ids[1]})
    assert answer.status == 404 and "to make room for a newer one" in answer.json()["detail"], answer
    # when only named ones are left the new one is refused, and nothing is lost
    for name in ("b", "c"):
        session.value(fill, None)
        answer = checkpoint(session, name)
    assert answer.status == 507 and "MiB" in answer.json()["detail"], answer
    left = [one["name"] for one in client.get(session.path + "/checkpoints").json()["checkpoints"]]
    assert "kept" in left and "c" not in left, left
    assert session.value("k = len(a)", "k") == 60 << 20


def test_nothing_is_dropped_for_a_checkpoint_that_is_refused(make_server):
    client = make_server(limits={"checkpoints": "100MiB"}).client()
    session = Session(client, "python")
    small = checkpoint(session).json()["id"]
    session.value("import numpy as np\na = np.random.bytes(70 << 20)", None)
    kept = checkpoint(session, "kept").json()["id"]
    session.value("a = np.random.bytes(70 << 20)", None)
    answer = checkpoint(session, "too much")
    assert answer.status == 507, answer
    assert [one["id"] for one in client.get(session.path + "/checkpoints").json()["checkpoints"]] == [small, kept]


def test_checkpoints_end_with_their_session(client, server):
    session = Session(client, "python")
    for _ in range(3):
        assert checkpoint(session).status == 201
    before = len(server.processes())
    end(session)
    wait_until(lambda: len(server.processes()) <= before - 4, "the end of all four processes")


def test_branches_of_a_session_that_ends_are_all_answered(client):
    session = Session(client, "python")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, session.path + "/branch", {"count": 6}, timeout=30) for _ in range(3)]
        time.sleep(0.02)
        session.delete()
        assert all(one.result(30).status in (201, 404, 409, 410, 429, 503) for one in asked)


@pytest.mark.parametrize("what", ["branch", "checkpoints"])
def test_a_copy_of_a_session_that_is_deleted_is_gone(client, what):
    session = Session(client, "python")
    session.value("for i in range(30000): open(str(i), 'w').close()", None)  # copied first: that takes a while
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, session.path + "/" + what, {})
        time.sleep(0.3)
        session.delete()
        answer = asked.result()
    assert answer.status == 410 and answer.json()["code"] == "gone" and "deleted" in answer.json()["detail"] or answer.status in (201, 404), answer


def test_all_or_none_by_name(client):
    session = Session(client, "python")
    assert client.post(session.path + "/branch", {"names": ["twin-x", "twin-x"]}).status == 409
    assert not [s for s in client.get("/v1/sessions").json()["sessions"] if s["name"] == "twin-x"]
    session.delete()


def test_branches_at_once_stay_within_the_limit(make_server):
    client = make_server(limits={"max_sessions_per_user": 5}).client()
    session = Session(client, "python")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: client.post(session.path + "/branch", {"count": 4}), range(3)))
    assert len(client.get("/v1/sessions").json()["sessions"]) <= 5


def test_a_branch_knows_what_it_has_done_and_no_more(client):
    session = Session(client, "python")
    session.exec("a = 0")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(branch, session)
        for _ in range(5):
            session.exec("a += 1")
        copy = asked.result()[0]
    kept = copy.client.post(copy.path + "/exec", {"source": "v = a", "return": "v", "keep": True})
    run = kept.headers["myelin-run"]
    asked = client.post("/v1/runs/%s/rerun" % run)
    if asked.status != 409:  # else it was taken within a call, and says so
        again = asked.json()["id"]
        wait_until(lambda: client.get("/v1/runs/" + again).json()["state"] == "done", "the rerun")
        assert client.get("/v1/runs/%s/result" % again).json()["data"] == kept.json()["data"]
