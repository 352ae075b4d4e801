"""NEURON: scripts with `h`, `n` and `neuron`.

Progress and interrupts come, with fixed steps, by an event that renews itself while a simulation runs (h.run, h.continuerun,
pc.psolve, …): it is planted at each finitialize and changes no result. With variable steps any event would: CVode interpolates to
its time, and looks there for thresholds that were crossed. So there we are called by the standard run system, which updates graphs
between two steps, each 0.05 s (h.run, h.continuerun); pc.psolve, cvode.solve, local time steps run whole.

At these points vectors that record are read, too, if someone follows. An interrupt stops the run by h.stoprun, then
KeyboardInterrupt is raised as soon as the script has control again.
"""

import os
import signal
import sys
import time

from . import Engine, neuron_traces

FIRST_MS = 1.0  # simulated time to the next event, at first
LEAST_MS, MOST_MS = 0.125, 1024.0
FAST_S, SLOW_S = 0.02, 0.08  # wall time between events: wanted between these
RETRY_S = 0.002


class Graph:
    """What stdrun.hoc takes for a graph: `look` is called where it would be drawn."""

    def __init__(self, look):
        self.look = look

    def view_count(self):
        return 1  # 0: it would be dropped

    def fastflush(self):
        self.look()
        return 0

    def flush(self):
        return 0


class NeuronEngine(Engine):
    name = "neuron"

    def __init__(self):
        super().__init__()
        os.environ.setdefault("NEURON_MODULE_OPTIONS", "-nogui -nobanner")
        import neuron
        import numpy

        self.neuron = neuron
        self.numpy = numpy
        self.h = neuron.h
        self._n = getattr(neuron, "n", None)
        self._cvode = None
        self._handlers = None
        self._interval = FIRST_MS
        self._last = 0.0
        self._pending = False  # KeyboardInterrupt is to be raised
        self._stopped = False
        self._text = ""
        self._graph = Graph(self._drawn)
        self.traces = neuron_traces.Traces(self.h, numpy)
        self.methods = {"recorders": lambda name, args, kwargs: self.traces.list()}

    def versions(self):
        versions = super().versions()
        versions.update(neuron=str(self.neuron.__version__), numpy=self.numpy.__version__)
        return versions

    def names(self):
        names = {"h": self.h, "neuron": self.neuron}
        if self._n is not None:
            names["n"] = self._n
        return names

    def hooks(self):
        return [(type(self.h), self._hoc)]

    def _hoc(self, value):
        """A Vector is its numbers; a reference to a number, the number."""
        if str(value.hname() if hasattr(value, "hname") else value).startswith("Vector["):
            return self.numpy.array(value.as_numpy())
        from .. import rope

        raise rope.refuse(value)

    def open(self, session):
        super().open(session)
        h = self.h
        session.interrupts.quiet.add(self._event.__func__.__code__)
        session.interrupts.quiet.add(self._planted.__func__.__code__)
        for callback in (Graph.fastflush, Graph.flush, Graph.view_count):
            session.interrupts.quiet.add(callback.__code__)
        traces = self.traces
        for callback in (traces.before_init, traces.after_init):
            session.interrupts.quiet.add(callback.__func__.__code__)
        self._cvode = traces.cvode = h.CVode()
        traces.session = session
        self._handlers = [h.FInitializeHandler(1, self._planted), h.FInitializeHandler(3, traces.before_init), h.FInitializeHandler(2, traces.after_init)]

    def follow(self, send):
        self.traces.follow(send)

    def flush(self):
        self.traces.read(True)

    def before_result(self):
        if self._pending:
            self._pending = False
            self.session.interrupts.raised = True
            raise KeyboardInterrupt(self._text)

    def after_call(self, meta, failure):
        self._pending = False
        if self._stopped:
            self._stopped = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.h.stoprun = 0  # psolve would not run again

    def _planted(self):
        self._interval = FIRST_MS
        self._last = time.perf_counter()
        variable = bool(self._cvode.active())
        self.session.interruptible(not variable)  # with variable steps: once the graph is drawn
        if variable:
            self._show()
        else:
            self._cvode.event(self.h.t + self._interval, self._event)

    def _show(self):
        """Puts the graph among those of the standard run system, if that is loaded."""
        graphs = getattr(self.h, "fast_flush_list", None)
        if graphs is not None and not any(graphs.o(i) is self._graph for i in range(int(graphs.count()))):
            graphs.append(self._graph)

    def _drawn(self):
        if self._cvode.active():
            self.session.interruptible(True)
            self._look()

    def _event(self):
        if self._cvode.active():  # since the last finitialize: what is planted can't be taken back, but is the last one
            self.session.interruptible(False)
            self._show()
            return
        now = time.perf_counter()
        took = now - self._last
        self._last = now
        if took > SLOW_S:
            self._interval = max(LEAST_MS, self._interval / 2)
        elif took < FAST_S:
            self._interval = min(MOST_MS, self._interval * 2)
        if self._look():
            self._cvode.event(self.h.t + self._interval, self._event)

    def _look(self):
        """Between two steps. False if the run is to stop."""
        session = self.session
        h = self.h
        interrupts = session.interrupts
        if interrupts.branches:
            interrupts.branch_now()
        if interrupts.requested and not interrupts.raised:
            h.stoprun = 1
            self._later(h.t)
            return False
        if interrupts.follows:
            interrupts.follow_now()
        self.traces.read(False)
        t = h.t
        tstop = h.tstop if hasattr(h, "tstop") else 0.0
        if t <= tstop:
            session.progress(t, tstop)
        return True

    def _later(self, t):
        """Raises KeyboardInterrupt once NEURON has returned to the script; never inside its callback."""
        text = f"interrupted at t = {t:g} ms"
        if hasattr(self.h, "tstop") and self.h.tstop >= t:
            text += f" of {self.h.tstop:g} ms"
        interrupts = self.session.interrupts
        self._pending = self._stopped = True
        self._text = text

        def alarm(number, frame):
            if not self._pending or not interrupts.armed:
                return
            if interrupts.is_quiet(frame):
                signal.setitimer(signal.ITIMER_REAL, RETRY_S)
                return
            self._pending = False
            interrupts.raised = True
            raise KeyboardInterrupt(text)

        def trace(frame, event, argument):
            if not self._pending or not interrupts.armed:
                sys.settrace(None)
                return None
            if event == "line" and not interrupts.is_quiet(frame):
                sys.settrace(None)
                self._pending = False
                interrupts.raised = True
                raise KeyboardInterrupt(text)
            return trace

        # The next line of the script is not run; where a line goes on for long, the alarm ends it.
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code not in interrupts.quiet:
                frame.f_trace = trace
            frame = frame.f_back
        sys.settrace(trace)
        interrupts.quiet.add(trace.__code__)
        interrupts.quiet.add(alarm.__code__)
        signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)


def load():
    return NeuronEngine()
