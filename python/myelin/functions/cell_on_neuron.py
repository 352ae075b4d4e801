"""run_cell on NEURON: the reference that the server's own run_cell agrees with.

The mechanisms in mod/ are compiled once into a folder of the caller's (a C++ compiler and make are needed), then loaded into this
process. The currents of an FI curve are shared among all cores by fork, where that is allowed.
"""

import hashlib
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile

__all__ = ["compile_mechanisms", "fi_currents", "return_params", "run_cell_numbers"]

MOD = pathlib.Path(__file__).resolve().parent / "mod"
DT_MS = 0.025
RATES = ("m_inf", "l_inf", "n_inf", "tau_m", "tau_l", "tau_n")

_loaded = None


def return_params(params):
    """`params` as they came."""
    return params


def _nrnivmodl():
    import neuron

    package = pathlib.Path(neuron.__file__).resolve()
    places = [pathlib.Path(sys.executable).parent, *(p / "bin" for p in package.parents[3:5])]
    found = shutil.which("nrnivmodl", path=os.pathsep.join(map(str, places))) or shutil.which("nrnivmodl")
    if not found:
        raise RuntimeError("nrnivmodl is not there; it comes with NEURON's wheel")
    return found


def compile_mechanisms(cache):
    """The compiled library of the mechanisms, below the folder `cache`; made at the first call for this NEURON and these files."""
    import neuron

    sources = sorted(MOD.glob("*.mod"))
    key = hashlib.sha256(neuron.__version__.encode())
    for path in sources:
        key.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    cache = pathlib.Path(cache)
    place = cache / ("cell-" + key.hexdigest()[:16])
    pattern = "*/libnrnmech.*"
    for library in place.glob(pattern):
        return str(library)
    cache.mkdir(parents=True, exist_ok=True)
    # Built elsewhere and renamed, so that a build that is cut off, or two at once, leave nothing half done.
    work = pathlib.Path(tempfile.mkdtemp(prefix="cell-", dir=cache))
    try:
        for path in sources:
            shutil.copy(path, work)
        done = subprocess.run([_nrnivmodl(), "."], cwd=work, capture_output=True, text=True)
        made = list(work.glob(pattern))
        if done.returncode or not made:
            tail = (done.stdout + done.stderr).strip()[-2000:]
            raise RuntimeError("nrnivmodl failed (a C++ compiler and make are needed):\n" + tail)
        try:
            work.rename(place)
        except OSError:  # another was first
            if not list(place.glob(pattern)):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return str(next(place.glob(pattern)))


def _load(library):
    global _loaded
    os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui -nobanner")
    from neuron import h

    if _loaded is None:
        h.load_file("stdrun.hoc")
        h.nrn_load_dll(library)
        _loaded = library
    elif _loaded != library:
        raise RuntimeError("other mechanisms are loaded: " + _loaded)
    return h


def fi_currents(amp):
    """The currents (nA) of the FI curve that starts at `amp`: 10, or 11 where rounding makes one more."""
    import numpy

    return numpy.arange(amp, amp + 1, 0.1)


# run_cell's arguments. A name too many or too few is then told in Python's own words.
def run_cell(diam, cm, el, gl, gna, gh, gk, tstop, dur, amp, mhalf, hhalf, mk, hk, nhalf, kn, multiply, multiply1,
             multiply2, seg1, seg2, seg3):  # fmt: skip
    return dict(locals())


class _Cell:
    """The cell in this process' NEURON; `run` may be called again and again."""

    def __init__(self, h, p):
        self.h, self.p = h, p
        soma = self.soma = h.Section(name="soma")
        soma.L = 100
        soma.diam = p["diam"]
        soma.nseg = 1
        soma.Ra = 35.4
        soma.cm = p["cm"] * 1.4884e-4 / 6.2832e-4
        for mechanism in ("hh", "na1", "k1", "hd"):
            soma.insert(mechanism)
        soma.ena, soma.ek = 50, -77
        segment = self.segment = soma(0.5)
        segment.hh.gl = p["gl"] * 1e-6
        segment.hh.el = p["el"]
        na1, k1, hd = segment.na1, segment.k1, segment.hd
        na1.gbar, k1.gbar, hd.gbar = p["gna"] * 1e-3, p["gk"] * 1e-3, p["gh"] * 1e-4
        na1.mhalf, na1.mk, na1.seg = p["mhalf"], p["mk"], p["seg2"]
        na1.tau_factor_m, na1.tau_factor_h = p["multiply1"], p["multiply2"]
        k1.nhalf, k1.kn, k1.tau_factor, k1.seg = p["nhalf"], p["kn"], p["multiply"], p["seg1"]
        hd.hhalf, hd.hk, hd.seg = p["hhalf"], p["hk"], p["seg3"]
        self.clamp = h.IClamp(segment)
        self.clamp.delay = p["dur"][0]
        self.clamp.dur = p["dur"][1] - p["dur"][0]
        self.clamp.amp = p["amp"]
        self.spikes = h.Vector()
        self.counter = h.NetCon(segment._ref_v, None, sec=soma)
        self.counter.threshold = 0
        self.counter.record(self.spikes)

    def run(self, amp, traces):
        """Spike times, and the traces if wanted."""
        import numpy

        h, s = self.h, self.segment
        kept = {}
        if traces:
            references = dict(
                v_mV=s._ref_v, m_inf=s.na1._ref_minf, l_inf=s.hd._ref_linf, n_inf=s.k1._ref_ninf,
                tau_m=s.na1._ref_mtau, tau_l=s.hd._ref_taul, tau_n=s.k1._ref_taun,
            )  # fmt: skip
            kept = {name: h.Vector().record(reference) for name, reference in references.items()}
        h.CVode().active(False)
        h.secondorder = 0
        h.usetable_hh = 1
        h.celsius = 6.3
        h.steps_per_ms = 1 / DT_MS
        h.dt = DT_MS
        h.tstop = self.p["tstop"]
        h.v_init = self.p["el"]
        self.clamp.amp = amp
        h.run()
        return numpy.array(self.spikes), {name: numpy.array(vector) for name, vector in kept.items()}


def _fork(work):
    """Starts work() in a copy of this process; the pid and the pipe that its pickled result comes by."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "wb") as out:
            pickle.dump(work(), out)
        status = 0
    finally:
        os._exit(status)  # no handler of the original may run here


def _shared(cell, currents, processes):
    """Spike times of all currents but the last on other cores, as far as forks succeed; the last's, with traces, here."""
    processes = max(1, min(processes, len(currents)))
    spikes = [None] * len(currents)
    shares = [list(range(first, len(currents), processes)) for first in range(processes)]
    own = shares.pop((len(currents) - 1) % processes)  # the last current's
    children = []
    traces = None
    try:
        for share in shares:
            try:
                children.append((share, *_fork(lambda part=share: [cell.run(float(currents[i]), False)[0] for i in part])))
            except OSError:  # not allowed here, or too many processes
                own = sorted(own + share)
        for i in own:
            last = i == len(currents) - 1
            spikes[i], kept = cell.run(float(currents[i]), last)
            if last:
                traces = kept
        while children:
            share, pid, pipe = children[-1]
            with os.fdopen(os.dup(pipe), "rb") as results:
                data = results.read()
            os.close(pipe)
            children.pop()
            _, status = os.waitpid(pid, 0)
            if status:
                raise RuntimeError("a process of the FI curve ended with status %d" % status)
            for i, times in zip(share, pickle.loads(data)):
                spikes[i] = times
    finally:
        for _, pid, pipe in children:
            os.close(pipe)
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    return spikes, traces


def run_cell_numbers(params, cache, processes=None):
    """What run_cell(**params) computes, as arrays.

    currents_nA, spike_counts, frequencies_Hz (all spikes · 1000 / length of the stimulus): one entry a run, `amp` above 0 being
    the first current of an FI curve. spike_times_ms: all runs' in one array, spike_runs says whose each is. t_ms, v_mV, and
    m_inf, l_inf, n_inf, tau_m, tau_l, tau_n (ms): samples of the last run. `cache`: see compile_mechanisms.
    """
    import numpy

    p = run_cell(**params)
    cell = _Cell(_load(compile_mechanisms(cache)), p)
    currents = fi_currents(p["amp"]) if p["amp"] > 0 else numpy.array([float(p["amp"])])
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spikes, traces = _shared(cell, currents, processes)
    counts = numpy.array([len(times) for times in spikes])
    return dict(
        currents_nA=currents,
        spike_counts=counts,
        frequencies_Hz=counts * 1000 / (p["dur"][1] - p["dur"][0]),
        spike_times_ms=numpy.concatenate(spikes),
        spike_runs=numpy.repeat(numpy.arange(len(spikes)), counts),
        t_ms=numpy.arange(len(traces["v_mV"])) * DT_MS,
        **traces,
    )
