"""The engines `neuron` and `jaxley`."""

import importlib.util
import json
import time
import unittest

from harness import Failure, Zygote

JSON = "application/json"
CELL = """
h.load_file("stdrun.hoc")
s = h.Section(name="soma"); s.L = s.diam = 20; s.nseg = 5; s.insert("hh")
ic = h.IClamp(s(0.5)); ic.dur = 1e9; ic.amp = 0.5
"""
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

    def test_the_event_changes_nothing(self):
        # the recorded run, with the adapter's handler and without it, each twice: a process' first variable-step run has one step more
        source = CELL + RECORD + (
            "h.cvode_active({0})\nh.tstop = 200\n"
            "def once():\n  h.run()\n  return [list(v), list(t)]\n"
            "once(); once(); a = once()\n"
            "import sys\nf = sys._getframe()\n"
            "while 'self' not in f.f_locals or not hasattr(f.f_locals['self'], 'engine'): f = f.f_back\n"
            "f.f_locals['self'].engine._handler = None\n"
            "once(); b = once()\nr = [a == b, len(a[0]), len(set(a[0])) > 100]"
        )  # fmt: skip
        for variable in (0, 1):
            with self.zygote.spawn() as session:
                same, count, moves = session.exec(source.format(variable), "r")["data"]
                self.assertTrue(same and moves and count > 100, (variable, same, count))

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
