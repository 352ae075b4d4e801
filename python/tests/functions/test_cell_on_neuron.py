"""run_cell on NEURON against the recorded runs. Compiles the mechanisms, so it needs a C++ compiler."""

import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
import unittest

from myelin.functions import cell_on_neuron as cell

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "tests" / "data" / "cell" / "golden.json"


class WithoutNeuron(unittest.TestCase):
    def test_return_params(self):
        self.assertEqual(cell.return_params({"a": [1, None]}), {"a": [1, None]})

    def test_arguments_are_told_in_pythons_words(self):
        with self.assertRaises(TypeError) as caught:
            cell.run_cell_numbers({}, "nowhere")
        self.assertTrue(str(caught.exception).startswith("run_cell() missing 22 required positional arguments: 'diam', 'cm',"))
        self.assertTrue(str(caught.exception).endswith("'seg2', and 'seg3'"))


@unittest.skipUnless(importlib.util.find_spec("neuron") and importlib.util.find_spec("numpy"), "needs NEURON")
@unittest.skipUnless(shutil.which("make") and shutil.which("g++"), "needs a C++ compiler and make")
class OnNeuron(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.mkdtemp(prefix="myelin-cell-")
        cls.addClassCleanup(shutil.rmtree, cls.cache, ignore_errors=True)
        cls.golden = json.loads(GOLDEN.read_text())
        cls.library = cell.compile_mechanisms(cls.cache)

    def test_compiles_once(self):
        before = os.stat(self.library).st_mtime_ns
        self.assertEqual(cell.compile_mechanisms(self.cache), self.library)
        self.assertEqual(os.stat(self.library).st_mtime_ns, before)
        self.assertEqual(len(os.listdir(self.cache)), 1)

    def agrees(self, recorded, numbers):
        import numpy

        self.assertEqual(list(numbers["currents_nA"]), [run["amp"] for run in recorded["runs"]])
        for i, run in enumerate(recorded["runs"]):
            times = numbers["spike_times_ms"][numbers["spike_runs"] == i]
            self.assertEqual(len(times), len(run["spike_times_ms"]), i)
            self.assertLessEqual(numpy.abs(times - run["spike_times_ms"]).max(initial=0), 0.05)
            self.assertAlmostEqual(numbers["frequencies_Hz"][i], run["frequency_Hz"])
        trace = recorded["trace"]
        at = trace["index"]
        self.assertEqual(len(numbers["v_mV"]), recorded["samples"])
        self.assertLessEqual(numpy.abs(numbers["v_mV"][at] - trace["v"]).max(), 0.01)
        p = recorded["params"]
        away = numpy.min([numpy.abs(numpy.array(trace["v"]) - p[seg]) for seg in ("seg1", "seg2", "seg3")], axis=0) > 0.01
        for name in cell.RATES:
            theirs = numpy.array(trace[name])
            difference = numpy.abs(numbers[name][at] - theirs) / (1 + numpy.abs(theirs))
            self.assertLessEqual(difference[away].max(), 1e-3, name)

    def test_agrees_with_the_recordings(self):
        for name, recorded in self.golden.items():
            with self.subTest(name):
                self.agrees(recorded, cell.run_cell_numbers(recorded["params"], self.cache))

    def test_one_process_gives_the_same(self):
        import numpy

        params = self.golden["no_extra_channels"]["params"]
        alone = cell.run_cell_numbers(params, self.cache, processes=1)
        shared = cell.run_cell_numbers(params, self.cache, processes=3)
        self.assertEqual(set(alone), set(shared))
        for name in alone:
            self.assertTrue(numpy.array_equal(alone[name], shared[name]), name)

    def test_where_forks_are_refused(self):
        params = self.golden["no_extra_channels"]["params"]
        real = os.fork
        os.fork = lambda: (_ for _ in ()).throw(OSError(11, "refused"))
        try:
            numbers = cell.run_cell_numbers(params, self.cache, processes=4)
        finally:
            os.fork = real
        self.agrees(self.golden["no_extra_channels"], numbers)

    def test_errors_are_neurons(self):
        params = self.golden["readme_passive_neg"]["params"]
        for change, text in (
            ({"dur": [100]}, "list index out of range"),
            ({"diam": 0}, "soma diameter diam = 0. Setting to 1e-6"),
            ({"diam": "wide"}, "bad value"),
            ({"amp": "much"}, "must be real number, not str"),
            ({"gna": None}, "unsupported operand type(s) for *: 'NoneType' and 'float'"),
        ):
            with self.assertRaises(Exception) as caught:
                cell.run_cell_numbers(dict(params, **change), self.cache)
            self.assertIn(text, str(caught.exception))
