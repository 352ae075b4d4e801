"""Recorders that are followed: the same numbers as without, in the same order, and each event sent exactly once."""

import importlib.util
import json
import os
import random
import time
import unittest

from harness import Session, Zygote
from myelin.worker import protocol, rope
from test_nest import HAVE, BALANCED, GAP, PLASTIC

SEED = int(os.environ.get("MYELIN_SEED", random.SystemRandom().randrange(1 << 30)))


class Follower(Session):
    """Keeps what a session sends about its recorders."""

    def __init__(self, zygote):
        super().__init__(zygote)
        self.data = []

    def exec(self, source, *names, **meta):
        return super().exec(source, *names, envelope="v1", **meta)

    def frame(self, timeout=60.0):
        while True:
            kind, call, body = self.one(timeout)
            if kind != protocol.DATA:
                return kind, call, body

    def one(self, timeout=60.0):
        kind, call, body = super().frame(timeout)
        if kind == protocol.DATA:
            assert len(body) <= protocol.MAX_FROM_WORKER
            self.data.append(json.loads(rope.to_json(rope.unpack(body, None), "bare")))
        return kind, call, body

    def follow(self, running=False):
        self.sock.sendall(protocol.frame(protocol.FOLLOW, b'{"on":true}'))
        if running:
            self.signal()
            return
        kind, _, body = self.frame()
        assert (kind, json.loads(body)) == (protocol.STATE, {"following": True}), (kind, body)

    def sent(self, recorder=None):
        """Of each recorder: its rows, sorted, as exact tuples."""
        out = {}
        for event in self.data:
            if event["topic"] not in ("spikes", "samples"):
                continue
            columns = [event["times"], event["senders"], *(event.get("values", {})[k] for k in sorted(event.get("values", {})))]
            assert len({len(c) for c in columns}) == 1
            out.setdefault(event["recorder"], []).extend(zip(*columns))
        out = {i: sorted(rows, key=repr) for i, rows in out.items()}
        return out if recorder is None else out.get(recorder, [])

    def notes(self):
        return [event["text"] for event in self.data if event["topic"] == "note"]


# Everything by which PyNEST shows what was recorded. `rows` is what a follower must have been sent.
COLLECT = """
import hashlib
def digest(x):
    import numpy
    if isinstance(x, dict):
        return {str(k): digest(v) for k, v in x.items() if k not in ('filenames',)}
    if isinstance(x, numpy.ndarray):
        return [x.dtype.str, list(x.shape), hashlib.sha256(x.tobytes()).hexdigest(), x[:3].tolist()]
    if isinstance(x, (list, tuple)):
        return [type(x).__name__] + [digest(v) for v in x]
    return repr(x)
answers, rows = [], {}
for c in nest.GetNodes({'element_type': 'recorder'}):
    i = c.get('global_id')
    if str(c.get('record_to')) != 'memory':  # it has no events
        answers.append([i, digest(c.get()), c.n_events])
        continue
    e = c.events
    answers.append([i, digest(c.get()), digest(e), type(c.n_events).__name__, c.n_events, digest(c.get('events')), digest(c.get(['events', 'n_events'])),
                    digest(c.get('events', 'times')), digest(c.get('events', ['senders', 'times'])), digest(nest.GetStatus(c)),
                    digest(nest.GetStatus(c, 'events')), digest(nest.GetStatus(c, ['n_events', 'label'])), digest(c.get('events', output='json'))])
    e['times'] *= 0  # the script's own: nothing that is kept may change
    e = c.get('events')
    times = e['times'] * nest.resolution - e['offsets'] if 'offsets' in e else e['times']
    more = [e[k] for k in sorted(e) if k not in ('times', 'senders', 'offsets')]
    rows[str(i)] = [list(x) for x in zip(times.tolist(), e['senders'].tolist(), *[m.tolist() for m in more])]
every = nest.GetNodes({'model': 'spike_recorder'})
answers.append(digest(nest.GetStatus(every)) if len(every) else 0)
answers.append(digest(every.get('events')) if len(every) else 0)
answers.append(digest(every.n_events) if len(every) else 0)
answers.append([nest.local_spike_counter, nest.biological_time, nest.num_connections])
c = nest.GetConnections(synapse_model='stdp_synapse')
answers.append(sorted(zip(c.get('source'), c.get('target'), map(repr, c.get('weight')))) if len(c) > 1 else 0)
answers.append([repr(x) for x in nest.GetNodes({'element_type': 'neuron'}).get('V_m')] if len(nest.GetNodes({'element_type': 'neuron'})) > 1 else 0)
"""
# Many slices, and recorders read at each of them.
OFTEN = """
from myelin.worker.engines import nest as adapter, nest_recorders
adapter.SLICE_S, nest_recorders.SHARE = %r, 1e9
"""


def network(seed):
    """A random network and what is done to it: two scripts."""
    r = random.Random(seed)
    threads = r.choice([1, 1, 2, 3])
    build = ["nest.ResetKernel(); nest.verbosity = nest.VerbosityLevel.ERROR",
             "nest.local_num_threads = %d; import os; nest.overwrite_files, nest.data_path = True, os.environ['HOME']; nest.rng_seed = %d; nest.resolution = %g" % (threads, r.randrange(1, 10000), r.choice([0.1, 0.1, 0.25])),
             "n = nest.Create('%s', %d)" % (r.choice(["iaf_psc_alpha", "iaf_psc_exp", "iaf_cond_alpha"]), r.randrange(20, 200)),
             "p = nest.Create('poisson_generator', %d, {'rate': %g})" % (r.randrange(1, 3), r.choice([9000.0, 15000.0])),
             "cond = str(n[0].get('model')) == 'iaf_cond_alpha'",
             "nest.Connect(p, n, syn_spec={'weight': 2. if cond else 12., 'delay': %g})" % r.choice([0.5, 1.0, 1.5]),
             "nest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 10}, {'weight': 1. if cond else 5., 'delay': %g, 'synapse_model': '%s'})"
             % (r.choice([0.5, 1.0, 2.0, 2.5]), r.choice(["static_synapse", "stdp_synapse", "tsodyks_synapse"])),
             "r = nest.Create('spike_recorder'); nest.Connect(n, r)",
             "nest.CopyModel('spike_recorder', 'mine', {'label': 'own'}); s = nest.Create('mine', 2); nest.Connect(n[:7], s)",
             "m = nest.Create('multimeter', 1, {'record_from': ['V_m'], 'interval': %g}); nest.Connect(m, n[:5])" % r.choice([0.5, 1.0, 2.0]),
             "v = nest.Create('voltmeter', %d); nest.Connect(v, n[5:9])" % r.randrange(1, 3)]
    if r.random() < 0.5:
        build.append("q = nest.Create('spike_recorder', params={'time_in_steps': True}); nest.Connect(n[:10], q)")
    if r.random() < 0.5:  # devices that send to a recorder
        build.append("g = nest.Create('spike_generator', 3, {'spike_times': [float(i) for i in range(1, 400, 7)]}); nest.Connect(g, s[:1])")
    if r.random() < 0.4:
        build.append("f = nest.Create('spike_recorder', params={'record_to': 'ascii'}); nest.Connect(n[:3], f)")
    if r.random() < 0.5:
        build.append("w = nest.Create('weight_recorder', params={'time_in_steps': %s}); nest.CopyModel('stdp_synapse', 'seen', {'weight_recorder': w})" % (r.random() < 0.3))
        build.append("nest.Connect(n[:20], n, {'rule': 'fixed_indegree', 'indegree': 3}, {'synapse_model': 'seen', 'weight': 1.})")
    steps = []
    for _ in range(r.randrange(2, 6)):
        steps.append(r.choice(["nest.Simulate(%d.0)" % r.randrange(1, 90), "nest.Simulate(%d.5)" % r.randrange(1, 40),
                               "[nest.Simulate(1.0) for _ in range(20)]",
                               "nest.Prepare(); nest.Run(%d.0); nest.Run(10.5); nest.Cleanup()" % r.randrange(1, 40),
                               "with nest.RunManager(): [nest.Run(5.0) for _ in range(4)]"]))
        if r.random() < 0.3:
            steps.append(r.choice(["k = r.n_events", "k = r.events", "k = nest.GetStatus(s)", "k = m.get('events', 'V_m')",
                                   "n.set(I_e=50.0)", "x = nest.Create('spike_recorder'); nest.Connect(n, x)"]))
    return "\n".join(build) + "\n", "\n".join(steps) + "\n"


@unittest.skipUnless(HAVE, "needs NEST")
class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.zygote = Zygote("nest")

    @classmethod
    def tearDownClass(cls):
        cls.zygote.close()

    def follower(self):
        session = Follower(self.zygote)
        self.addCleanup(session.close)
        return session

    def same(self, build, steps, slice_s=0.002, cleared=False, grain=None):
        """One session that nobody follows; one that is followed before anything; one after the building; one at the end."""
        plain = self.follower()
        plain.exec(build)
        plain.exec(steps)
        wanted = plain.exec(COLLECT, "answers", "rows")["data"]
        self.assertEqual(plain.data, [])
        for begin in ("first", "built", "middle", "end"):
            with self.subTest(begin=begin):
                session = self.follower()
                session.exec(OFTEN % slice_s)
                if begin == "first":
                    session.follow()
                session.exec(build)
                if begin == "built":
                    session.follow()
                if begin == "middle":
                    first, _, rest = steps.partition("\n")
                    session.exec(first)
                    session.follow()
                    session.exec(rest)
                else:
                    session.exec(steps)
                if begin == "end":
                    session.follow()
                got = session.exec(COLLECT, "answers", "rows")["data"]
                self.maxDiff = 2000
                for mine, theirs in zip(got["answers"], wanted["answers"]):
                    self.assertEqual(mine, theirs)
                self.assertEqual(got, wanted)
                if not cleared:
                    sent = session.sent()
                    for i, rows in wanted["rows"].items():
                        self.assertEqual(sent.get(int(i), []), sorted((tuple(row) for row in rows), key=repr), "recorder %s" % i)
                again = session.exec(COLLECT, "answers", "rows")["data"]
                self.assertEqual(again, wanted)
        return wanted

    def test_random_networks(self):
        print("MYELIN_SEED=%d" % SEED)
        for i in range(4):
            with self.subTest(seed=SEED + i):
                self.same(*network(SEED + i))

    def test_balanced(self):
        for threads in (1, 2):
            for synapse in ("static_synapse", "stdp_synapse"):
                with self.subTest(threads=threads, synapse=synapse):
                    self.same(BALANCED.format(threads=threads, synapse=synapse), "nest.Simulate(100.3)\nnest.Simulate(10.1)\nnest.Simulate(40.0)\n")

    def test_gap_junctions(self):
        for threads in (1, 2):
            for wfr in (True, False):
                with self.subTest(threads=threads, wfr=wfr):
                    self.same(GAP.format(threads=threads, wfr=wfr), "nest.Simulate(20.0)\nnest.Simulate(15.0)\n")

    def test_structural_plasticity(self):
        wanted = self.same(PLASTIC.format(), "nest.Simulate(200.0)\nnest.Simulate(100.0)\n")
        self.assertTrue(any(wanted["rows"].values()))

    def test_emptied_and_moved_by_the_script(self):
        build = BALANCED.format(threads=2, synapse="static_synapse") + "import os; nest.overwrite_files, nest.data_path = True, os.environ['HOME']\n"
        for steps in ("nest.Simulate(50.)\nr.n_events = 0\nnest.Simulate(30.)\nm.set(n_events=0)\nnest.Simulate(20.)\n",
                      "nest.Simulate(50.)\nr.record_to = 'ascii'\nk = r.n_events\nnest.Simulate(30.)\nr.record_to = 'memory'\nnest.Simulate(20.)\n",
                      "nest.Simulate(50.)\nr.set(record_to='memory', label='x')\nnest.Simulate(30.)\nnest.SetStatus(r, {'n_events': 0})\n"):
            with self.subTest(steps=steps):
                self.same(build, steps, cleared=True)

    def test_what_the_script_drops_was_sent(self):
        session = self.follower()
        session.follow()
        build = BALANCED.format(threads=1, synapse="static_synapse")
        got = session.exec(build + "a = []\nfor i in range(5):\n    nest.Simulate(20.)\n    a += zip(r.events['times'].tolist(), r.events['senders'].tolist())\n    r.n_events = 0\ni = r.tolist()[0]", "a", "i")["data"]
        self.assertEqual(session.sent(got["i"]), sorted(map(tuple, got["a"]), key=repr))
        session.data.clear()
        # a reset: what was recorded before it was sent before it is told
        got = session.exec(build + "nest.Simulate(30.)\nk = r.n_events\nnest.ResetKernel()", "k")["data"]
        self.assertEqual(sum(len(e["times"]) for e in session.data if e["topic"] == "spikes"), got)
        self.assertIn(("state", {"reset": True}), session.events)

    def test_errors_are_the_same(self):
        build = BALANCED.format(threads=1, synapse="static_synapse")
        tries = """
nest.Simulate(20.)
out = []
for what in ("r.n_events = 1", "r.time_in_steps = True", "r.events = {}", "r.get('nothing')", "r.get('events', 'nothing')", "m.record_from = ['V_m']"):
    try:
        exec(what)
        out.append('done')
    except Exception as error:
        out.append(type(error).__name__ + str(error)[:200])
"""
        plain, session = self.follower(), self.follower()
        session.follow()
        self.assertEqual(session.exec(build + tries, "out"), plain.exec(build + tries, "out"))

    def test_begins_during_a_simulation(self):
        build = BALANCED.format(threads=2, synapse="stdp_synapse")
        steps = "nest.Simulate(6000.)\n"
        plain = self.follower()
        plain.exec(build + steps)
        wanted = plain.exec(COLLECT, "answers", "rows")["data"]
        session = self.follower()
        session.exec(OFTEN % 0.002 + build)
        number = session.start("exec", json.dumps({"source": steps}).encode(), envelope="v1", content_type="application/json")
        kind, _, _ = session.frame()
        self.assertEqual(kind, protocol.PROGRESS)
        session.follow(running=True)
        session.follow(running=True)  # a second one changes nothing
        session.finish(number)
        self.assertGreater(len(session.data), 4)
        self.assertEqual(session.exec(COLLECT, "answers", "rows")["data"], wanted)
        for i, rows in wanted["rows"].items():
            self.assertEqual(session.sent(int(i)), sorted(map(tuple, rows), key=repr))

    def test_files_are_not_begun_anew(self):
        build = BALANCED.format(threads=1, synapse="static_synapse") + "import os; nest.overwrite_files, nest.data_path = True, os.environ['HOME']\nf = nest.Create('spike_recorder', params={'record_to': 'ascii', 'label': 'f'})\nnest.Connect(n, f)\n"
        content = "import glob\na = [open(name).read() for name in f.filenames]\nk = f.n_events"
        plain, session = self.follower(), self.follower()
        plain.exec(build + "nest.Simulate(200.)")
        session.exec(OFTEN % 0.002)
        session.follow()
        session.exec(build + "nest.Simulate(200.)")
        wanted = plain.exec(content, "a", "k")["data"]
        self.assertGreater(wanted["k"], 100)
        self.assertEqual(session.exec(content, "a", "k")["data"], wanted)
        later, elsewhere = session.notes()
        self.assertIn("after this simulation", later)
        self.assertRegex(elsewhere, r"not streamed: [0-9]+ \(ascii\)$")
        self.assertEqual(sorted(map(len, session.sent().values())), sorted(session.exec("k = [r.n_events, m.n_events]", "k")["data"]))

    def test_weights(self):
        build = """
nest.ResetKernel(); nest.verbosity = nest.VerbosityLevel.ERROR; nest.local_num_threads = 2; nest.rng_seed = 3
n = nest.Create('iaf_psc_alpha', 20); p = nest.Create('poisson_generator', params={'rate': 12000.})
w = nest.Create('weight_recorder'); nest.CopyModel('stdp_synapse', 'seen', {'weight_recorder': w})
nest.Connect(p, n, syn_spec={'weight': 20.}); nest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 5}, {'synapse_model': 'seen', 'weight': 10.})
"""
        wanted = self.same(build, "nest.Simulate(100.)\nnest.Simulate(50.3)\n")
        (rows,) = wanted["rows"].values()
        self.assertGreater(len({row[-1] for row in rows}), 10)  # they change
        session = self.follower()
        session.exec(build)
        (listed,) = session.json("recorders", {})
        self.assertEqual((listed["kind"], listed["columns"]), ("samples", ["ports", "receptors", "targets", "weights"]))

    def test_inside_of_prepare(self):
        session = self.follower()
        session.exec(BALANCED.format(threads=1, synapse="static_synapse"))
        session.exec("nest.Prepare(); nest.Run(20.)")
        session.follow()
        session.exec("nest.Run(20.)")
        self.assertEqual(session.sent(), {})
        self.assertEqual(len(session.notes()), 1)
        got = session.exec("nest.Run(20.); nest.Cleanup(); k = [r.n_events, m.n_events]", "k")["data"]
        self.assertEqual(sorted(map(len, session.sent().values())), sorted(got))

    def test_interrupted(self):
        session = self.follower()
        session.follow()
        session.exec(OFTEN % 0.002 + BALANCED.format(threads=1, synapse="static_synapse"))
        number = session.start("exec", json.dumps({"source": "nest.Simulate(1e6)"}).encode(), envelope="v1", content_type="application/json")
        while sum(len(rows) for rows in session.sent().values()) < 500:
            session.frame()
        session.interrupt(number)
        with self.assertRaisesRegex(Exception, "interrupted"):
            session.finish(number)
        got = session.exec("k = [r.n_events, m.n_events]", "k")["data"]
        self.assertEqual(sorted(map(len, session.sent().values())), sorted(got))
        self.assertEqual(session.exec("nest.Simulate(10.)\nk = nest.biological_time > 0", "k")["data"], True)

    def test_an_early_interrupt_leaves_no_kernel_prepared(self):
        session = self.follower()
        session.exec(BALANCED.format(threads=1, synapse="static_synapse") + "nest.Simulate(50.)")
        r = random.Random(SEED)
        for _ in range(60):
            number = session.start("step", json.dumps({"advance": 1e7}).encode(), content_type="application/json")
            time.sleep(r.random() * 0.004)
            session.interrupt(number)
            with self.assertRaisesRegex(Exception, "interrupted"):
                session.finish(number)
            self.assertIn("time_ms", session.json("step", {"advance": 1.0}))

    def test_wide_recorders_and_long_labels_fit(self):
        session = self.follower()
        session.follow()
        session.exec("nest.ResetKernel()\nn = nest.Create('iaf_cond_alpha', 100)\n"
                     "m = nest.Create('multimeter', params={'record_from': ['V_m', 'g_ex', 'g_in', 't_ref_remaining'], 'interval': 0.1, 'label': 'x' * 3000000})\n"
                     "nest.Connect(m, n)\nnest.Simulate(100.)")
        self.assertEqual(sum(len(e["times"]) for e in session.data), 99000)
        self.assertEqual({tuple(sorted(e["values"])) for e in session.data}, {("V_m", "g_ex", "g_in", "t_ref_remaining")})
        self.assertEqual(session.data[0]["units"], {"V_m": "mV", "g_ex": "nS", "g_in": "nS"})


CELL = """
h.load_file('stdrun.hoc')
s = h.Section(name='soma'); s.L = s.diam = 20; s.nseg = 3; s.insert('hh')
c = h.IClamp(s(0.5)); c.delay, c.dur, c.amp = 1, 1e9, 0.3
syn = h.ExpSyn(s(0.1)); stim = h.NetStim(); stim.interval, stim.number, stim.noise, stim.start = 7, 1e9, 0, 3
con = h.NetCon(stim, syn); con.weight[0] = 0.002
v = h.Vector().record(s(0.5)._ref_v)
t = h.Vector().record(h._ref_t)
gates = [h.Vector().record(s(x).hh._ref_m) for x in (0.1, 0.9)]
more = {'ina': h.Vector().record(s(0.5)._ref_ina), 'i': h.Vector().record(c, c._ref_i)}
mine = h.Vector(50).fill(3.0)
spikes = h.Vector(); con.record(spikes)
every = []
def stepped():
    every.append(list(v))
"""
COARSE = CELL + "slow = h.Vector().record(s(0.5)._ref_v, 0.1)\n"
ALL = "[list(x) for x in (v, t, *gates, *more.values(), mine, spikes)]"


@unittest.skipUnless(importlib.util.find_spec("neuron"), "needs NEURON")
class Traces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.zygote = Zygote("neuron")

    @classmethod
    def tearDownClass(cls):
        cls.zygote.close()

    def follower(self, follow=True):
        session = Follower(self.zygote)
        self.addCleanup(session.close)
        if follow:
            session.follow()
        return session

    def traces(self, session):
        """label -> (times, values) since the last restart."""
        found = {}
        for event in session.data:
            if event["topic"] != "samples":
                continue
            self.assertEqual(event["senders"], [event["recorder"]] * len(event["times"]))
            self.assertEqual(event["model"], "Vector")
            (values,) = event["values"].values()
            if event.get("restart"):
                found[event["label"]] = ([], [])
            times, before = found.setdefault(event["label"], ([], []))
            times += event["times"]
            before += values
        return found

    def test_the_samples_are_the_same_and_sent_once(self):
        print("MYELIN_SEED=%d" % SEED)
        r = random.Random(SEED)
        for variable in (0, 1):
            build = CELL + "h.CVode().active(%d)\n" % variable
            runs = []
            for _ in range(4):
                runs.append(r.choice(["h.finitialize(-65); h.continuerun(%g)" % r.uniform(20, 90), "h.tstop = %g; h.run()" % r.uniform(20, 90),
                                      "h.continuerun(h.t + %g)" % r.uniform(1, 60), "c.amp = %g" % r.uniform(0.1, 0.5)]))
            with self.subTest(variable=variable, runs=runs):
                plain, session = self.follower(False), self.follower()
                for each in (plain, session):
                    # the first variable-step run of a process takes a step more than every later one
                    each.exec(build + "h.finitialize(-65); h.continuerun(20)")
                    each.exec("h.finitialize(-65); h.continuerun(20)")
                for run in runs:
                    wanted = plain.exec(run + "\nd = " + ALL, "d")["data"]
                    self.assertEqual(session.exec("from myelin.worker.engines import neuron_traces\nneuron_traces.SHARE = 1e9\n" + run + "\nd = " + ALL, "d")["data"], wanted)
                    sent = self.traces(session)
                    self.assertEqual(set(sent), {"v", "gates[0]", "gates[1]", "more['ina']", "more['i']"})
                    for (label, got), values in zip(((k, sent[k]) for k in ("v", "gates[0]", "gates[1]", "more['ina']", "more['i']")), (wanted[0], *wanted[2:6])):
                        self.assertEqual(got, (wanted[1], values), label)

    def test_they_come_while_it_runs(self):
        session = self.follower()
        session.exec(CELL)
        number = session.start("exec", json.dumps({"source": "h.finitialize(-65); h.continuerun(1e7)"}).encode(), envelope="v1", content_type="application/json")
        while len([e for e in session.data if e.get("label") == "v"]) < 3:
            self.assertNotIn(session.one()[0], (protocol.RESULT, protocol.ERROR))
        session.interrupt(number)
        with self.assertRaisesRegex(Exception, "interrupted"):
            session.finish(number)
        self.assertNotIn("NEURON:", session.printed())
        got = session.exec("d = [list(t), list(v)]", "d")["data"]
        self.assertEqual(self.traces(session)["v"], tuple(got))
        self.assertGreater(len(got[0]), 1000)

    def test_followed_in_the_middle_of_a_run(self):
        session = self.follower(False)
        session.exec(CELL)
        number = session.start("exec", json.dumps({"source": "h.tstop = 1e7; h.finitialize(-65); h.continuerun(1e7)"}).encode(), envelope="v1", content_type="application/json")
        while session.frame()[0] != protocol.PROGRESS:
            pass
        session.follow(running=True)
        while not any(e.get("label") == "v" for e in session.data):
            self.assertNotIn(session.one()[0], (protocol.RESULT, protocol.ERROR))
        session.interrupt(number)
        with self.assertRaisesRegex(Exception, "interrupted"):
            session.finish(number)
        got = session.exec("d = [list(t), list(v)]", "d")["data"]
        self.assertEqual(self.traces(session)["v"], tuple(got))

    def test_times(self):
        session = self.follower()
        session.exec(COARSE + "at = h.Vector([1, 2.5, 7]); some = h.Vector().record(s(0.5)._ref_v, at)\nh.finitialize(-65); h.continuerun(10)")
        sent = self.traces(session)
        slow, some, v = session.exec("d = [list(slow), list(some), list(v)]", "d")["data"]
        self.assertEqual(sent["slow"][1], slow)
        self.assertTrue(all(abs(a - i * 0.1) < 1e-9 for i, a in enumerate(sent["slow"][0])))
        self.assertEqual(sent["some"], ([1, 2.5, 7], some))
        # without a vector of times: the fixed step's, else a note says what to do
        session.exec("t = None\nh.finitialize(-65); h.continuerun(10)")
        times, values = self.traces(session)["v"]
        self.assertTrue(len(times) == len(v) and all(abs(a - i * 0.025) < 1e-9 for i, a in enumerate(times)))
        session.data.clear()
        session.exec("h.CVode().active(1)\nh.finitialize(-65); h.continuerun(10)")
        self.assertTrue(any("record the time beside it" in note for note in session.notes()))
        self.assertEqual([e for e in session.data if e.get("label") == "v"], [])

    def test_what_begins_anew_says_so(self):
        session = self.follower()
        session.exec(CELL + "h.finitialize(-65); h.continuerun(5)")
        self.assertFalse(any(e.get("restart") for e in session.data))
        session.data.clear()
        session.exec("h.continuerun(8); h.finitialize(-65); h.continuerun(3)")
        events = [e for e in session.data if e["label"] == "v"]
        self.assertEqual([bool(e.get("restart")) for e in events], [False, True])
        self.assertEqual((round(events[0]["times"][0], 6), len(events[0]["times"])), (5.025, 120))
        session.exec("v = h.Vector().record(s(0.1)._ref_v)")  # another vector of the name
        session.exec("h.finitialize(-65); h.continuerun(2)")
        self.assertEqual(self.traces(session)["v"], tuple(session.exec("d = [list(t), list(v)]", "d")["data"]))
        session.exec("v.play_remove()\nh.finitialize(-65); h.continuerun(2); h.continuerun(4)")
        self.assertEqual(len(self.traces(session)["more['i']"][0]), 161)
        self.assertEqual(round(self.traces(session)["v"][0][-1], 6), 2.0)

    def test_recorders_are_listed(self):
        session = self.follower(False)
        self.assertEqual(session.call("recorders"), [])
        session.exec(CELL + "h.finitialize(-65); h.continuerun(1)")
        listed = session.call("recorders")
        self.assertEqual([(r["label"], r["columns"], r["n_events"]) for r in listed],
                         [("v", ["v"], 41), ("gates[0]", ["m"], 41), ("gates[1]", ["m"], 41), ("more['ina']", ["ina"], 41), ("more['i']", ["i"], 41)])
        session.follow()
        units = {e["label"]: (e["recorder"], e["units"]) for e in session.data}
        self.assertEqual(units, {r["label"]: (r["id"], u) for r, u in zip(listed, ({"v": "mV"}, {}, {}, {"ina": "mA/cm2"}, {"i": "nA"}))})


if __name__ == "__main__":
    unittest.main()
