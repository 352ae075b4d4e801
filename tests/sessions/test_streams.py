"""Streams and closed loops against the running server: every event once, in order, for every reader; nobody waits for a slow one."""

import base64
import contextlib
import http.client
import json
import os
import random
import subprocess
import threading
import time

import cbor2
import numpy
import pytest

from conftest import ENGINES_PYTHON, PATIENCE_S, Session, wait_until
from myelin.client.transport import Transport
from myelin.client.websocket import Closed, WebSocket

SEED = int(os.environ.get("MYELIN_SEED", random.SystemRandom().randrange(1 << 16)))
NETWORK = """
nest.ResetKernel()
nest.verbosity = nest.VerbosityLevel.ERROR
nest.set(rng_seed=%d, local_num_threads=%d)
n = nest.Create('iaf_psc_alpha', 200)
p = nest.Create('poisson_generator', params={'rate': 12000.0})
sr = nest.Create('spike_recorder', params={'label': 'all'})
few = nest.Create('spike_recorder')
m = nest.Create('multimeter', params={'record_from': ['V_m'], 'interval': 1.0})
nest.Connect(p, n, syn_spec={'weight': 10.0})
nest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 40}, {'weight': nest.random.uniform(-30., 20.), 'delay': 1.5})
nest.Connect(n, sr)
nest.Connect(n[:20], few)
nest.Connect(m, n[:5])
ids = [c.tolist()[0] for c in (sr, few, m)]
"""
# Without neurons to update: a spike is cheap, and there are many.
MANY = """
nest.ResetKernel()
nest.verbosity = nest.VerbosityLevel.ERROR
g = nest.Create('poisson_generator', params={'rate': 1000.0})
n = nest.Create('parrot_neuron', 1000)
sr = nest.Create('spike_recorder')
nest.Connect(g, n)
nest.Connect(n, sr)
"""
ROWS = """
def rows(c):
    e = c.events
    return [e['times'], e['senders'], *(e[k] for k in sorted(e) if k not in ('times', 'senders'))]
all_rows = {str(c.tolist()[0]): rows(c) for c in nest.GetNodes({'element_type': 'recorder'})}
"""


def decode(message):
    return json.loads(message) if isinstance(message, str) else cbor2.loads(message, tag_hook=typed)


def typed(one, other=None):
    tag = one if hasattr(one, "tag") else other  # cbor2 changed the order
    kinds = {64: "u1", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8", 72: "i1", 77: "<i2", 78: "<i4", 79: "<i8", 85: "<f4", 86: "<f8"}
    return numpy.frombuffer(tag.value, kinds[tag.tag]).tolist() if tag.tag in kinds else tag


class Reader:
    """A WebSocket that reads in a thread until `stop`, an end, or a wish to pause."""

    def __init__(self, session, query="", client=None, path=None, start=True):
        client = client or session.client
        transport = Transport("http://%s:%d" % client.address, client.token, None, PATIENCE_S)
        self.socket = WebSocket(transport, (path or session.path + "/stream") + query)
        self.events, self.kinds, self.closed = [], set(), None
        self.go_on = threading.Event()
        self.go_on.set()
        self.thread = threading.Thread(target=self.run, daemon=True)
        if start:
            self.thread.start()

    def run(self):
        while True:
            self.go_on.wait()
            try:
                message = self.socket.receive()
            except Closed as error:
                self.closed = error.code
                return
            except OSError:
                return
            self.kinds.add(type(message).__name__)
            try:
                self.events.append(decode(message))
            except ValueError:  # a hostile worker's
                continue

    def of(self, topic):
        return [e for e in list(self.events) if e["topic"] == topic]

    def states(self):
        return [e["state"] for e in self.of("state")]

    def rows(self):
        found = {}
        for event in list(self.events):
            if event["topic"] in ("spikes", "samples"):
                values = event.get("values", {})
                found.setdefault(str(event["recorder"]), []).extend(zip(event["times"], event["senders"], *(values[k] for k in sorted(values))))
        return {i: sorted(r) for i, r in found.items()}

    def count(self):
        return sum(len(e["times"]) for e in list(self.events) if e["topic"] in ("spikes", "samples"))

    def wait(self, condition, what):
        wait_until(lambda: condition(self), "%s; it has %r" % (what, [(e["seq"], e["topic"], e.get("state")) for e in self.events[-5:]]))
        return self

    def check_order(self):
        numbers = [e["seq"] for e in self.events[1:]]  # the first is the present state, and has the number of what it follows
        assert numbers == sorted(set(numbers)), "out of order, or twice"
        return self

    def close(self):
        self.socket.close()
        self.thread.join(PATIENCE_S)


def recorded(session):
    """What `events` says: rows as a stream gives them."""
    return {i: sorted(zip(*columns)) for i, columns in session.value(ROWS, "all_rows").items()}


def same(reader, wanted, only=None):
    wanted = {i: rows for i, rows in wanted.items() if rows and (only is None or i in only)}
    total = sum(map(len, wanted.values()))
    reader.wait(lambda r: r.count() >= total, "%d events" % total)
    assert reader.rows() == wanted
    reader.check_order()


class Sse:
    """Server-Sent Events, by hand."""

    def __init__(self, session, query="", last=None):
        self.connection = http.client.HTTPConnection(*session.client.address, timeout=PATIENCE_S)
        headers = {"Accept": "text/event-stream", "NESTServerAuth": session.client.token}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        self.connection.request("GET", session.path + "/stream" + query, headers=headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.response.headers["Content-Type"].startswith("text/event-stream")

    def next(self):
        fields = {}
        while True:
            line = self.response.readline().decode().rstrip("\n")
            if not line and "data" in fields:
                event = json.loads(fields["data"])
                assert str(event["seq"]) == fields["id"] and event["topic"] == fields["event"]
                return event
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                assert name in ("id", "event", "data") and name not in fields
                fields[name] = value

    def until(self, condition):
        events = [self.next()]
        while not condition(events[-1]):
            events.append(self.next())
        return events

    def close(self):
        self.connection.close()


@pytest.fixture
def nest_session(server):
    made = []

    def make(source=None):
        session = Session(server.client(), "nest")
        made.append(session)
        if source:
            session.value(source, None)
        return session

    yield make
    for session in made:
        session.delete()


# ---- every event once


@pytest.mark.parametrize("threads", [1, 2])
def test_readers_that_begin_before_during_and_after(nest_session, threads):
    seed = SEED + threads
    print("MYELIN_SEED=%d" % SEED)
    session = nest_session()
    before = Reader(session)
    before.wait(lambda r: r.events, "the present state")
    session.value(NETWORK % (seed, threads), None)
    ids = session.value("", "ids")
    session.value("nest.Simulate(200.0)", None)
    done = threading.Event()
    answers = []

    def simulate():
        answers.append(session.exec("nest.Simulate(2000.0)"))
        done.set()

    thread = threading.Thread(target=simulate)
    thread.start()
    before.wait(lambda r: r.of("progress"), "progress")
    during = Reader(session)
    only = Reader(session, "?topics=spikes&recorders=%d" % ids[1])
    samples = Reader(session, "?topics=samples,state&format=cbor")
    thread.join(PATIENCE_S)
    assert answers[0].status == 200, answers[0]
    session.value("[nest.Simulate(1.0) for _ in range(50)]; nest.Prepare(); nest.Run(30.0); nest.Cleanup()", None)
    wanted = recorded(session)
    assert all(wanted[str(i)] for i in ids)
    after = Reader(session)
    for reader in (before, during, after):
        same(reader, wanted)
    same(only, wanted, {str(ids[1])})
    same(samples, wanted, {str(ids[2])})
    assert {e["topic"] for e in only.events[1:]} == {"spikes"} and {e["topic"] for e in samples.events} == {"samples", "state"}
    assert before.kinds == {"str"} and samples.kinds == {"bytes"}
    first = before.of("spikes")[0]
    assert first["model"] == "spike_recorder" and first["label"] == ("all" if first["recorder"] == ids[0] else "")
    assert before.of("samples")[0]["units"] == {"V_m": "mV"}
    # and the numbers are those of a session that nobody follows
    plain = nest_session(NETWORK % (seed, threads))
    plain.value("nest.Simulate(200.0)\nnest.Simulate(2000.0)\n[nest.Simulate(1.0) for _ in range(50)]; nest.Prepare(); nest.Run(30.0); nest.Cleanup()", None)
    plain.value(ROWS, None), session.value(ROWS, None)
    assert plain.value("", "all_rows") == session.value("", "all_rows")
    for reader in (before, during, only, samples, after):
        reader.close()


def test_what_was_recorded_before_anybody_followed_is_sent_first(nest_session):
    session = nest_session(NETWORK % (3, 2) + "nest.Simulate(300.0)")
    wanted = recorded(session)
    reader = Reader(session)
    same(reader, wanted)
    session.value("nest.Simulate(50.0)", None)
    same(reader, recorded(session))
    times = {i: [e["times"] for e in reader.events if e.get("recorder") == i] for i in session.value("", "ids")}
    assert all(max(chunks[0]) <= 300.0 for chunks in times.values())
    reader.close()


def test_cbor_and_json_and_events_agree(nest_session):
    session = nest_session(NETWORK % (5, 1) + "print('héllo\\n\"quoted\"')\nnest.Simulate(100.0)")
    session.value("nest.Simulate(20.0)", None)
    text, binary = Reader(session, "?after=0"), Reader(session, "?after=0&format=cbor")
    wanted = recorded(session)
    same(text, wanted), same(binary, wanted)
    session.value("print('héllo\\n\"quoted\"')\nnest.Simulate(100.0)", None)
    for reader in (text, binary):
        reader.wait(lambda r: r.states()[-1:] == ["idle"] and r.of("stdout"), "the end of the call")
        same(reader, recorded(session))
    sse = Sse(session)
    last = text.events[-1]["seq"]
    binary.wait(lambda r: r.events[-1]["seq"] >= last, "the same events")
    third = sse.until(lambda e: e["seq"] >= last)
    common = [e for e in text.events[1:] if e["seq"] <= last]
    assert [e for e in binary.events[1:] if e["seq"] <= last] == common
    assert [e for e in third[1:] if e["seq"] <= last] == common
    assert "".join(e["text"] for e in text.of("stdout")) == 'héllo\n"quoted"\n'
    sse.close()


def test_a_slow_reader_slows_nobody_and_gets_all(nest_session):
    session = nest_session(MANY)
    slow, quick = Reader(session), Reader(session)
    slow.wait(lambda r: r.events, "the present state")
    slow.go_on.clear()
    session.value("nest.Simulate(1000.0)", None)
    count = session.value("k = sr.n_events", "k")
    assert count > 900_000
    quick.wait(lambda r: r.count() >= count, "%d events" % count)
    assert slow.count() < count
    assert session.value("a = 1 + 1", "a") == 2
    slow.go_on.set()
    slow.wait(lambda r: r.count() >= count, "%d events" % count)
    senders, times = session.value("e = sr.events", "e")["senders"], session.value("", "e")["times"]
    for reader in (slow, quick):
        assert reader.count() == count
        got = numpy.array([reader_rows for e in reader.of("spikes") for reader_rows in zip(e["times"], e["senders"])])
        want = numpy.array(list(zip(times, senders)))
        assert numpy.array_equal(got[numpy.lexsort(got.T)], want[numpy.lexsort(want.T)])
        reader.check_order().close()


def test_a_reader_that_comes_back_goes_on_where_it_was(nest_session):
    session = nest_session(NETWORK % (7, 1))
    stop = threading.Event()

    def simulate():
        while not stop.is_set():
            session.value("nest.Simulate(100.0)", None)

    Reader(session).wait(lambda r: r.events, "the present state").close()
    thread = threading.Thread(target=simulate)
    thread.start()
    events, r = [], random.Random(SEED)
    for turn in range(12):
        last = events[-1]["seq"] if events else 0
        wanted = r.randrange(1, 15)
        if turn % 2:
            sse = Sse(session, last=last)
            for _ in range(wanted + 1):
                event = sse.next()
                events += [event] if event["seq"] > last else []
            sse.close()
        else:
            reader = Reader(session, "?after=%d&format=%s" % (last, r.choice(["json", "cbor"])))
            reader.wait(lambda r: len(r.events) > wanted, "events")
            reader.close()
            assert reader.events[0]["topic"] == "state" and reader.events[0]["seq"] == last
            events += reader.events[1:]
    stop.set()
    thread.join(PATIENCE_S)
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    wanted = recorded(session)
    last = Reader(session, "?after=%d" % events[-1]["seq"])
    total = sum(map(len, wanted.values()))
    last.wait(lambda r: r.count() + sum(len(e["times"]) for e in events if "times" in e) >= total, "the rest")
    last.events[1:1] = events
    assert last.rows() == {i: rows for i, rows in wanted.items() if rows}
    last.close()


def test_a_gap_is_told(make_server):
    server = make_server(environment={"MYELIN_STREAM_BUDGET": str(1 << 20)})
    session = Session(server.client(), "nest")
    session.value(MANY, None)
    early = Reader(session)
    early.wait(lambda r: r.events, "the present state")
    early.go_on.clear()
    for _ in range(5):
        session.value("nest.Simulate(100.0)", None)
    folder, sizes = server.data / "streams", []
    # what is still on its way to the disk makes another gap
    wait_until(lambda: sizes.append(size(folder)) or (len(sizes) > 10 and len(set(sizes[-10:])) == 1), "the disk to have all")
    late = Reader(session, "?after=1")
    late.wait(lambda r: r.states()[-1:] == ["idle"] and len(r.events) > 3, "the end")
    gap = late.of("gap")[0]
    assert gap["from"] == 2 and gap["to"] == gap["seq"] > 2 and late.events[1] == gap and late.events[2]["seq"] == gap["to"] + 1
    assert 0 < late.count() * 16 <= (1 << 20)
    last = late.events[-1]["seq"]
    early.go_on.set()
    early.wait(lambda r: r.events[-1]["seq"] >= last, "the end")
    seen = 0
    for event in early.check_order().events[1:]:
        if event["topic"] == "gap":
            assert event["from"] == seen + 1
        else:
            assert event["seq"] == seen + 1
        seen = event["seq"]
    folder = server.data / "streams"
    assert sum(f.stat().st_blocks * 512 for f in folder.iterdir()) < 16 << 20
    early.close(), late.close()


def test_events_of_a_session_that_has_ended_are_read_to_the_end(server):
    session = Session(server.client(), "nest")
    session.value(MANY, None)
    reader = Reader(session)
    reader.wait(lambda r: r.events, "the present state")
    reader.go_on.clear()
    session.value("nest.Simulate(500.0)", None)
    count = session.value("k = sr.n_events", "k")
    session.exec("import os\nprint('last words', flush=True)\nos._exit(3)")
    reader.go_on.set()
    reader.wait(lambda r: r.states()[-1:] == ["ended"], "the end")
    assert reader.count() == count and reader.events[-1]["cause"]["code"] == "exited"
    assert "".join(e["text"] for e in reader.of("stdout")).endswith("last words\n")
    reader.thread.join(PATIENCE_S)
    assert reader.closed == 1000
    again = Reader(session, "?after=%d" % reader.events[-3]["seq"])
    again.wait(lambda r: r.closed, "the end")
    assert again.events[0]["state"] == "ended" and again.events[1:] == reader.events[-2:]
    sse = Sse(session, "?topics=state")
    assert sse.until(lambda e: e.get("cause"))[-1] == reader.events[-1]
    assert set(sse.response.read().split()) <= {b":"}
    sse.close()
    # A reader of some topics only is through as well, though the last events of all are not for it.
    for query in ("?topics=spikes", "?topics=spikes&after=3", "?topics=stdout&recorders=1"):
        late = Reader(session, query)
        late.wait(lambda r: r.closed, "the end")
        assert late.closed == 1000
        sse = Sse(session, query)
        sse.response.read()
        sse.close()


def test_the_end_of_a_session_ends_readers_of_some_topics(server, new_session):
    session = new_session()
    readers = [Reader(session, "?topics=" + topics) for topics in ("spikes", "stdout", "progress", "samples,stdout")]
    sse = Sse(session, "?topics=spikes")
    for reader in readers:
        reader.wait(lambda r: r.events, "the present state")
    session.delete()
    for reader in readers:
        reader.wait(lambda r: r.closed, "the end")
        assert reader.closed == 1000
    sse.response.read()
    sse.close()
    assert server.client().get("/v1/health").status == 200


def size(folder):
    """Of its files, which may go meanwhile."""
    sizes = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sum(sizes)


def test_streams_of_ended_sessions_are_bounded_together(make_server):
    """Of one user, who makes one after another, no more is left on the disk than one session may hold; the last can still be read."""
    server = make_server(environment={"MYELIN_STREAM_BUDGET": str(1 << 20)})
    folder = server.data / "streams"
    for _ in range(6):
        session = Session(server.client(), "nest")
        session.value(MANY, None)
        reader = Reader(session)
        reader.wait(lambda r: r.events, "the present state")
        session.value("nest.Simulate(100.0)", None)
        assert server.client().request("DELETE", session.path).status == 204
        reader.wait(lambda r: r.closed, "the end")
        reader.close()
    last = session
    wait_until(lambda: size(folder) < 3 << 20, "the oldest streams to go")
    again = Reader(last)
    again.wait(lambda r: r.closed, "the end")
    assert again.count() > 0 and again.states()[-1] == "ended"


# ---- other topics


def test_states_progress_and_output(nest_session):
    session = nest_session("a = 1")
    reader = Reader(session)
    reader.wait(lambda r: r.events, "the present state")
    session.value("print('é' * 40000, end='')\nn = nest.Create('iaf_psc_alpha', 2000)\nnest.Simulate(3000.0)", None)
    session.exec("raise ValueError")
    session.value("nest.ResetKernel()", None)
    reader.wait(lambda r: r.states()[-1:] == ["idle"] and r.states().count("busy") == 3, "three calls")
    states = reader.of("state")
    assert states[0]["state"] == "idle" and "call" not in states[0]
    assert [s["state"] for s in states[1:]] == ["busy", "idle", "busy", "idle", "busy", "reset", "idle"]
    assert [s.get("ok") for s in states[1:] if s["state"] == "idle"] == [True, False, True]
    calls = [s["call"] for s in states if s["state"] == "busy"]
    assert calls == sorted(set(calls))
    progress = reader.of("progress")
    assert progress and all(0 <= p["done"] <= 1 and p["of_ms"] == 3000.0 for p in progress)
    assert [p["time_ms"] for p in progress] == sorted(p["time_ms"] for p in progress)
    said = "".join(e["text"] for e in reader.of("stdout"))
    assert set(said) <= {"é", *"NEST \n"} or "é" in said
    assert "\ufffd" not in said and said.count("é") == 40000
    only = Reader(session, "?topics=stdout,progress")
    only.wait(lambda r: len(r.events) > len(progress), "all")
    assert {e["topic"] for e in only.events[1:]} <= {"stdout", "progress"}
    reader.close(), only.close()


def test_a_reset_is_told_between_the_data(nest_session):
    session = nest_session()
    reader = Reader(session)
    reader.wait(lambda r: r.events, "the present state")
    session.value(MANY + "nest.Simulate(50.0)\na = sr.n_events\n" + MANY + "nest.Simulate(20.0)\nb = sr.n_events", None)
    a, b = session.value("", ["a", "b"]).values()
    reader.wait(lambda r: r.count() >= a + b, "all")
    resets = [i for i, e in enumerate(reader.events) if e.get("state") == "reset"]
    count = lambda events: sum(len(e["times"]) for e in events if e["topic"] == "spikes")
    assert (count(reader.events[:resets[-1]]), count(reader.events[resets[-1]:])) == (a, b)
    reader.close()


def test_a_branch_has_everything_from_the_start(nest_session):
    session = nest_session(NETWORK % (11, 2))
    parent = Reader(session)
    session.value("nest.Simulate(200.0)", None)
    answer = session.client.post(session.path + "/branch", {"count": 1})
    assert answer.status == 201, answer
    branch = Session.__new__(Session)
    branch.client, branch.id = session.client, answer.json()["sessions"][0]["id"]
    branch.path = "/v1/sessions/" + branch.id
    branch.value("n.set(I_e=100.0)\nnest.Simulate(100.0)", None)
    reader = Reader(branch)
    same(reader, recorded(branch))
    branch.value("nest.Simulate(50.0)", None)
    session.value("nest.Simulate(30.0)", None)
    same(reader, recorded(branch)), same(parent, recorded(session))
    assert recorded(branch) != recorded(session)
    reader.close(), parent.close()
    branch.delete()


def test_a_rewind_sends_the_data_anew(nest_session):
    session = nest_session(NETWORK % (13, 1) + "nest.Simulate(100.0)")
    checkpoint = session.client.post(session.path + "/checkpoints", {}).json()
    wanted = recorded(session)
    reader = Reader(session)
    session.value("nest.Simulate(100.0)", None)
    same(reader, recorded(session))
    assert session.client.post(session.path + "/rewind", {"checkpoint": checkpoint["id"]}).status == 200
    reader.wait(lambda r: "rewound" in r.states(), "rewound")
    del reader.events[:[e.get("state") for e in reader.events].index("rewound")]
    same(reader, wanted)
    session.value("nest.Simulate(30.0)", None)
    same(reader, recorded(session))
    reader.close()


def test_recorders_are_listed(nest_session):
    session = nest_session(NETWORK % (1, 1) + "nest.Simulate(20.0)\nf = nest.Create('spike_recorder', params={'record_to': 'ascii'})")
    found = session.client.get(session.path + "/recorders").json()["recorders"]
    ids, count = session.value("k = [sr.n_events, few.n_events, m.n_events]", ["ids", "k"]).values()
    common = {"record_to": "memory", "label": ""}
    assert found[:3] == [
        dict(common, id=ids[0], kind="spikes", model="spike_recorder", label="all", n_events=count[0], columns=[]),
        dict(common, id=ids[1], kind="spikes", model="spike_recorder", n_events=count[1], columns=[]),
        dict(common, id=ids[2], kind="samples", model="multimeter", n_events=count[2], columns=["V_m"])]
    assert found[3]["record_to"] == "ascii"
    Reader(session).wait(lambda r: r.count() == sum(count), "all").close()
    assert session.client.get(session.path + "/recorders").json()["recorders"] == found
    python = Session(session.client, "python")
    assert python.client.get(python.path + "/recorders").json() == {"recorders": []}
    python.delete()


# ---- who may, and what is wrong


def test_wrong_wishes(server, new_session):
    session = new_session("python")
    path = session.path + "/stream"
    events = {"Accept": "text/event-stream"}
    for query, word in (("?topics=spike", "spikes"), ("?recorders=a", "ids"), ("?recorders=1,,x", "ids"), ("?after=-1", "after"),
                        ("?after=1x", "after"), ("?format=xml", "cbor"), ("?topics=gap", "topic")):
        answer = server.client().get(path + query, headers=events)
        assert answer.status == 400 and answer.json()["code"] == "bad_request" and word in answer.json()["detail"], (query, answer)
    answer = server.client().get(path)
    assert answer.status == 400 and "WebSocket" in answer.json()["detail"]
    assert server.client().get(session.path + "/loop").status == 400
    assert server.client().get("/v1/sessions/s_nothing/stream", headers=events).status == 404
    assert server.client(None).get(path, headers=events).status == 401
    # a number that is not there yet is taken for the newest
    reader = Reader(session, "?after=18446744073709551615")
    reader.wait(lambda r: r.events, "the present state")
    session.value("a = 1", None)
    reader.wait(lambda r: r.states()[-1:] == ["idle"] and len(r.events) >= 3, "the call")
    reader.close()


def test_foreign_sessions_are_not_there(server, new_session):
    session = new_session("python")
    token = server.client().post("/v1/tokens", {"name": "stream-other"}).json()["token"]
    try:
        other = server.client(token)
        for path in ("/stream", "/loop", "/recorders"):
            assert other.get(session.path + path, headers={"Accept": "text/event-stream"}).status == 404
        ended = new_session("python")
        Reader(ended).wait(lambda r: r.events, "the present state").close()
        ended.delete()
        assert other.get(ended.path + "/stream", headers={"Accept": "text/event-stream"}).status == 404
    finally:
        server.client().request("DELETE", "/v1/tokens/stream-other")


def upgrade(server, path, *headers):
    connection = server.raw(("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: %s\r\n%s\r\n" % (path, base64.b64encode(os.urandom(16)).decode(), "".join(h + "\r\n" for h in headers))).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return connection, head.decode("latin-1").lower()


def test_a_page_gives_its_token_as_a_subprotocol(server, new_session):
    session = new_session("python")
    for path in ("/stream", "/loop"):
        connection, head = upgrade(server, session.path + path, "Sec-WebSocket-Protocol: myelin, token.%s" % server.token)
        assert " 101 " in head.splitlines()[0] and "sec-websocket-protocol: myelin\r\n" in head + "\r\n", head
        assert server.token not in head
        connection.close()
        connection, head = upgrade(server, session.path + path, "Sec-WebSocket-Protocol: myelin, token.wrong")
        assert " 401 " in head.splitlines()[0]
        connection.close()


# ---- hostile workers


FLOOD = r'''
import os, socket, struct, time
def frame(kind, body=b"", number=0, flags=0):
    return struct.pack("<IHHQ", len(body), kind, flags, number) + body
def piece(kind, size, dtype=0, shape=(), where=0, offset=0):
    return struct.pack("<BBBBIQQ", kind, dtype, len(shape), where, 0, size, offset) + b"".join(struct.pack("<Q", n) for n in shape)
def text(t):
    return struct.pack("<I", 1) + piece(0, len(t)) + t
s = socket.socket(fileno=os.dup(3))
'''
SMALL = b'{"topic":"spikes","recorder":1,"times":[1.0],"senders":[1]}'
BROKEN = [
    "text(b'{\"topic\":\"spikes\",\"recorder\":1,\"times\":[1,')",  # no JSON
    "text(b'{\"topic\":\"spikes\"\\n\\nid: 7\\nevent: state\\ndata: {}\\n\\n:}')",  # an event of its own in SSE
    "text(b'[\"topic\":\"spikes\"]')", "text(b'{\"topic\":\"state\",\"state\":\"ended\"}')", "text(b'')", "b''", "b'\\xff' * 100",
    "text(b'{\"topic\":\"note\",\"text\":\"\\xff\\xfe\"}')", "struct.pack('<I', 1 << 31)", "struct.pack('<I', 1) + piece(1, 8, 9, (1 << 40,))",
    "struct.pack('<I', 2) + piece(0, 20) + piece(1, 1 << 40, 9, (1 << 37,), 1) + b'{\"topic\":\"spikes\",\"a\":'",
    "text(b'{\"topic\":\"spikes\",\"recorder\":99999999999999999999999}')", "text(b'{\"seq\":1,\"topic\":\"samples\",\"recorder\":-1}')",
]


def test_a_worker_that_sends_broken_events(server, new_session, bystanders):
    session = new_session("python")
    readers = [Reader(session), Reader(session, "?format=cbor", start=False)]
    seen = []
    raw = threading.Thread(target=lambda: seen.extend(read_all(readers[1].socket)), daemon=True)
    raw.start()
    sse = Sse(session)
    sse.next()
    for broken in BROKEN:
        session.exec(FLOOD + "s.sendall(frame(13, %s))" % broken)
        bystanders.check()
    session.value("print('still there')", None)
    events = []
    while not any(e.get("text") == "still there\n" for e in events):
        fields = {}
        while "data" not in fields:
            line = sse.response.readline().decode("utf-8", "replace").rstrip("\n")
            name, _, value = line.partition(": ")
            fields[name] = value
        try:
            events.append(dict(json.loads(fields["data"]), seq=int(fields["id"])))
        except json.JSONDecodeError:
            events.append({"seq": int(fields["id"]), "topic": "broken"})
    assert not any(e.get("state") == "ended" for e in events)
    numbers = [e["seq"] for e in events]
    assert numbers == sorted(set(numbers))
    wait_until(lambda: any(e.get("text") == "still there\n" for e in seen), "the output, as CBOR")
    sse.close()
    for reader in readers:
        reader.socket.close()


def read_all(sock):
    while True:
        try:
            yield decode(sock.receive())
        except (Closed, OSError):
            return


@pytest.mark.parametrize("followed", [True, False])
def test_a_worker_that_floods_events(make_server, followed):
    server = make_server(environment={"MYELIN_STREAM_BUDGET": str(8 << 20)})
    session, neighbour = Session(server.client(), "python"), Session(server.client(), "python")
    reader = Reader(session, "?topics=state") if followed else None
    thread = threading.Thread(target=session.exec, args=(FLOOD + "data = frame(13, text(%r)) * 500\nuntil = time.monotonic() + 8\n"
                                                         "while time.monotonic() < until:\n    s.sendall(data)" % SMALL,))
    thread.start()
    while thread.is_alive():
        assert neighbour.value("a = sum(range(1000))", "a") == 499500
        time.sleep(0.05)
    with open("/proc/%d/status" % server.process.pid) as status:
        resident = next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmRSS:"))
    assert resident < 256, "%d MiB" % resident
    assert session.value("a = 2", "a") == 2
    if reader:
        reader.wait(lambda r: r.states()[-1:] == ["idle"] and len(r.states()) >= 5, "the end")
        reader.close()


# ---- closed loops


class Loop(Reader):
    def __init__(self, session, query="", client=None):
        super().__init__(session, query, client, session.path + "/loop", start=False)

    def ask(self, message):
        self.socket.send(message if isinstance(message, str) else json.dumps(message))
        answer = self.socket.receive()
        self.kinds.add(type(answer).__name__)
        return decode(answer)


CELLS = """
nest.ResetKernel()
nest.verbosity = nest.VerbosityLevel.ERROR
nest.rng_seed = 17
n = nest.Create('iaf_psc_alpha', 3)
p = nest.Create('poisson_generator', params={'rate': 8000.0})
nest.Connect(p, n, syn_spec={'weight': 20.0})
nest.Connect(n, n, syn_spec={'synapse_model': 'stdp_synapse', 'weight': 30.0})
"""
IN_PROCESS = """
import json, nest
%s
out = []
for i in range(1000):
    n[:2].I_e = 100.0 + (i %% 7) * 50.0
    n[2:].set(I_e=3.0 * i)
    nest.Simulate(1.0)
    out.append([nest.biological_time, *n.get('V_m'), n[0].get('t_ref'), *n[1:].get('I_e')])
print('RESULT' + json.dumps(out))
"""


@pytest.mark.parametrize("query", ["", "?format=cbor"])
def test_a_thousand_steps_are_those_in_process(nest_session, query):
    plain = subprocess.run([ENGINES_PYTHON, "-c", IN_PROCESS % CELLS], capture_output=True, text=True, timeout=PATIENCE_S)
    assert plain.returncode == 0, plain.stderr
    wanted = json.loads(plain.stdout.partition("RESULT")[2])
    session = nest_session(CELLS)
    loop = Loop(session, query)
    for i in range(1000):
        answer = loop.ask({"set": [{"nodes": [1, 2], "params": {"I_e": 100.0 + (i % 7) * 50.0}}, {"nodes": [3], "params": {"I_e": 3.0 * i}}], "advance": 1.0,
                           "get": [{"nodes": [1, 2, 3], "keys": ["V_m"]}, {"nodes": [1], "keys": ["t_ref"]}, {"nodes": [2, 3], "keys": ["I_e"]}]})
        got = [answer["time_ms"], *answer["get"][0]["V_m"], *answer["get"][1]["t_ref"], *answer["get"][2]["I_e"]]
        assert got == wanted[i], "step %d" % i
    assert loop.kinds == {"bytes" if query else "str"}
    loop.socket.close()


def test_loop_calls_and_errors(nest_session, new_session):
    session = new_session("python")
    session.value("import numpy as np\nx = [0]\ndef step(a, b=2):\n    x[0] += a * b\n    return {'x': np.array([x[0], 1.5])}\ndef bad():\n    raise KeyError('no')\n", None)
    loop = Loop(session)
    assert loop.ask({"call": "step", "args": [3]}) == {"data": {"x": [6.0, 1.5]}}
    assert loop.ask({"call": "step", "args": [1, 1]}) == {"data": {"x": [7.0, 1.5]}}
    for wrong, code in (("{", "bad_request"), ("[]", None), ('{"a":1}', "call_failed"), ('"x"', None), ('{"call":"nothing"}', "call_failed"), ('{"call":7}', "call_failed"),
                        ('{"call":"bad"}', "call_failed"), ('{"call":"step","args":{}}', "call_failed"), ("", "bad_request"), ("[" * 100000, None)):
        error = loop.ask(wrong)["error"]
        assert error["detail"] and error["code"] == (code or error["code"]), (wrong, error)
    assert loop.ask('{"call":"bad"}')["error"]["class"] == "KeyError"
    assert loop.ask({"call": "step", "args": [1]}) == {"data": {"x": [9.0, 1.5]}}
    cbor = Loop(session, "?format=cbor")
    assert cbor.ask({"call": "step", "args": [1]})["data"]["x"] == [11.0, 1.5]
    nest = nest_session(CELLS)
    loop.socket.close(), cbor.socket.close()
    loop = Loop(nest)
    assert loop.ask({}) == {"time_ms": 0.0, "get": []}
    assert loop.ask({"advance": 2.5})["time_ms"] == 2.5
    for wrong in ({"advance": -1}, {"advance": "x"}, {"advance": 0.01}, {"sets": []}, {"set": [{"nodes": [99], "params": {"I_e": 1.0}}]}, {"set": [{"nodes": [1]}]},
                  {"get": [{"nodes": [1], "keys": ["nothing"]}]}, {"set": [{"nodes": [1], "params": {"I_e": "x"}}]}, {"get": 3}):
        error = loop.ask(wrong)["error"]
        assert error["code"] == "call_failed" and error["detail"], (wrong, error)
    assert loop.ask({"advance": 0.5, "get": [{"nodes": [1], "keys": ["I_e"]}]}) == {"time_ms": 3.0, "get": [{"I_e": [0.0]}]}
    loop.socket.close()


def test_a_loop_is_followed_and_interrupted_from_beside(nest_session):
    session = nest_session(NETWORK % (19, 1))
    loop, reader = Loop(session), Reader(session)
    for _ in range(50):
        loop.ask({"advance": 2.0})
    same(reader, recorded(session))
    answer = []
    thread = threading.Thread(target=lambda: answer.append(loop.ask({"advance": 1e7})))
    thread.start()
    wait_until(lambda: session.interrupt().status == 202, "a running step")
    thread.join(PATIENCE_S)
    assert answer[0]["error"]["code"] == "interrupted" or "interrupt" in answer[0]["error"]["detail"], answer
    answer = loop.ask({"advance": 1.0})
    assert answer.get("time_ms", 0) > 100.0, answer
    same(reader, recorded(session))
    reader.close(), loop.socket.close()


def test_a_loop_of_a_session_that_ends(new_session):
    session = new_session("python")
    session.value("import os\ndef die():\n    os._exit(4)", None)
    one, two = Loop(session), Loop(session)
    assert one.ask({"call": "die"})["error"]["code"] == "gone"
    with pytest.raises(Closed) as closed:
        one.socket.receive()
    assert closed.value.code == 4410
    assert two.ask({"call": "die"})["error"]["code"] == "gone"
    with pytest.raises(Closed) as closed:
        two.socket.receive()
    assert closed.value.code == 4410
