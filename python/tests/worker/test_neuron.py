"""The engines `neuron` and `jaxley`."""

import importlib.util
import json
import subprocess
import sys
import time
import unittest

from harness import Failure, Zygote

JSON = "application/json"
CELL = """
h.load_file("stdrun.hoc")
s = h.Section(name="soma"); s.L = s.diam = 20; s.nseg = 5; s.insert("hh")
ic = h.IClamp(s(0.5)); ic.dur = 1e9; ic.amp = 0.5
"""
# a ring of cells; `drive` runs it, `r` are its samples
NETWORK = """
import hashlib
h.load_file("stdrun.hoc")
cells, keep = [h.Section(name=f"c{{i}}") for i in range(4)], []
for i, s in enumerate(cells):
    s.L = s.diam = 20; s.nseg = 3; s.insert("hh")
    keep.append(h.IClamp(s(0.5))); keep[-1].dur = 1e9; keep[-1].amp = 0.2 + 0.1 * i
for i, s in enumerate(cells if {nets} else []):
    y = h.ExpSyn(cells[(i + 1) % 4](0.5)); y.tau = 2
    c = h.NetCon(s(0.5)._ref_v, y, sec=s); c.delay = 2; c.weight[0] = 0.02; c.threshold = 0; keep += [y, c]
pc, cvode = h.ParallelContext(), h.CVode()
pc.nthread({threads})
h.cvode_active("{kind}" != "fixed")
cvode.use_local_dt("{kind}" == "local")
cvode.use_daspk("{kind}" == "daspk")
vectors, queue = [], h.Vector()
for s in cells:
    v, t = h.Vector(), h.Vector(); vectors += [v, t]
    if "{kind}" == "local":
        cvode.record(s(0.5)._ref_v, v, t, sec=s)
    else:
        v.record(s(0.5)._ref_v); t.record(h._ref_t)
h.tstop = 50 if {threads} == 1 else 10
if "{drive}" == "run":
    h.run()
else:
    pc.set_maxstep(10); h.finitialize(-65)
    cvode.print_event_queue(queue)
    pc.psolve(h.tstop)
assert len(vectors[0]) > 100
r = hashlib.md5(b"".join(v.as_numpy().tobytes() for v in vectors)).hexdigest()
if "{kind}" != "fixed":  # there what waits in the queue can change a step, if not in this run
    r += f", {{len(queue)}} events"
"""
KINDS = (("fixed", 1), ("fixed", 2), ("variable", 1), ("variable", 2), ("local", 1), ("daspk", 1))
RECORD = "v = h.Vector().record(s(0.5)._ref_v); t = h.Vector().record(h._ref_t)\n"


@unittest.skipUnless(importlib.util.find_spec("neuron"), "needs NEURON")
class Neuron(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.zygote = Zygote("neuron")
        assert cls.zygote.ready, cls.zygote.failed

    @classmethod
    def tearDownClass(cls):
        cls.zygote.close()

    def setUp(self):
        self.session = self.zygote.spawn()
        self.addCleanup(self.session.close)

    def test_results(self):
        answer = self.session.exec(CELL + RECORD + "h.tstop = 5\nh.run()\nn = len(v)", "v", "t", "n")["data"]
        self.assertEqual((len(answer["v"]), len(answer["t"]), answer["n"]), (201, 201, 201))
        with self.assertRaises(Failure) as caught:
            self.session.exec(CELL, "s")
        self.assertIn("can't be returned", caught.exception.fields["text"])

    def test_samples_are_those_of_plain_neuron(self):
        cases = [{"nets": n, "kind": k, "threads": t, "drive": d} for n in (0, 1) for k, t in KINDS for d in ("run", "psolve")]
        plain = ["from neuron import h\n" + NETWORK.format(**case) + "print('md5', r)" for case in cases]
        runs = [subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) for source in plain]
        expected = [run.communicate()[0].partition("md5 ")[2].strip() for run in runs]
        self.assertTrue(all(expected), expected)
        for case, wanted in zip(cases, expected):
            with self.subTest(**case), self.zygote.spawn() as session:  # its first run: a second one may have a step less
                self.assertEqual(session.exec(NETWORK.format(**case), "r")["data"], wanted)

    def test_interrupts(self):
        for run in (
            "h.tstop = 1e8\nh.run()",
            "h.tstop = 1e8\nh.finitialize(-65)\nh.continuerun(1e8)",
            "h.finitialize(-65)\npc = h.ParallelContext()\npc.set_maxstep(10)\npc.psolve(1e8)",
            "h.cvode_active(1)\nh.tstop = 1e8\nh.run()",
            "h.finitialize(-65)\nwhile h.t < 1e8: h.fadvance()",
        ):
            with self.subTest(run):
                body = json.dumps({"source": CELL + run}).encode()
                number = self.session.start("exec", body, content_type=JSON)
                time.sleep(0.5)
                self.session.interrupt(number)
                with self.assertRaises(Failure) as caught:
                    self.session.finish(number, 20)
                self.assertTrue(caught.exception.fields["interrupted"])
                self.assertEqual(caught.exception.fields["class"], "KeyboardInterrupt")
                self.session.signal()  # late
                done = self.session.exec("h.cvode_active(0)\nh.tstop = 5\nh.run()\na = h.t", "a")["data"]
                self.assertAlmostEqual(done, 5.0)

    def test_progress(self):
        self.session.exec(CELL + "h.tstop = 3000\nh.run()")
        values = [value["time_ms"] for kind, value in self.session.events if kind == "progress"]
        self.assertEqual(values, sorted(values))

    def test_variable_steps(self):
        # events would change them: only the standard run system can be interrupted
        whole = ("progress", {"interruptible": False})
        self.session.exec(CELL + "h.tstop = 5\nh.run()")
        self.assertNotIn(whole, self.session.events)
        self.session.exec("h.cvode_active(1)\nh.finitialize(-65)\nh.ParallelContext().set_maxstep(10)\nh.ParallelContext().psolve(5)")
        self.assertIn(whole, self.session.events)
        self.session.events.clear()
        self.session.exec("import time\nend = time.monotonic() + 0.3\nh.finitialize(-65)\nwhile time.monotonic() < end: h.continuerun(h.t + 500)")
        self.assertEqual(self.session.events[0], whole)
        self.assertIn(("progress", {"interruptible": True}), self.session.events)


@unittest.skipUnless(importlib.util.find_spec("jaxley"), "needs Jaxley")
class Jaxley(unittest.TestCase):
    def test_session(self):
        with Zygote("jaxley") as zygote:
            self.assertTrue(zygote.ready, zygote.failed)
            self.assertEqual(zygote.ready["threads"], 1)
            with zygote.spawn() as session:
                source = (
                    "from jaxley.channels import HH\ncell = jx.Cell([jx.Branch(jx.Compartment(), ncomp=2)], parents=[-1])\n"
                    "cell.insert(HH())\ncell.branch(0).comp(0).stimulate(jx.step_current(1.0, 1.0, 0.1, 0.025, 10.0))\n"
                    "cell.branch(0).comp(0).record()\nv = jx.integrate(cell)\nn = list(v.shape)\na = jnp.arange(3.)"
                )
                answer = session.exec(source, "v", "n", "a")["data"]
                self.assertEqual([len(answer["v"]), len(answer["v"][0])], answer["n"])
                self.assertEqual(answer["a"], [0.0, 1.0, 2.0])


if __name__ == "__main__":
    unittest.main()
