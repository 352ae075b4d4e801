"""Vectors of NEURON that record, sent while they fill.

What `Vector.record` is told is noted as it is told; the vectors themselves are only read, between steps, and found by the names
that a script gave them: its globals, and lists, tuples and dicts in them. So nothing that is computed or recorded changes.
"""

import numbers
import time

SHARE = 0.03  # of the wall time that reading may take
ROWS = 20_000  # of one message
MOST_ITEMS = 4096  # of a list that is looked through
LABEL_CHARACTERS = 200
NO_TIMES = "{}: the times of its samples are not known; record the time beside it: h.Vector().record(h._ref_t)"


class Plan:
    """How a vector records."""

    def __init__(self, h, args):
        reference = next((a for a in args if repr(a).startswith(("data_handle", "<pointer"))), None)
        rest = args[args.index(reference) + 1 :] if reference is not None else ()
        self.is_time = reference is not None and reference == h._ref_t
        self.every = float(rest[0]) if rest and isinstance(rest[0], numbers.Real) else None
        self.at = rest[0] if rest and self.every is None else None  # a vector of times
        self.column, self.unit = "value", ""
        text = repr(reference)
        try:
            if "Voltage" in text:
                self.column, self.unit = "v", "mV"
            elif "{cont=" in text:
                of, self.column = text.partition("{cont=")[2].split()[:2]
                density = f"{self.column}_{of}"
                # asked only for what is there: NEURON prints each error
                name = self.column if of.endswith("_ion") else density if hasattr(h, density) else f"{of}.{self.column}"
                self.unit = str(h.units(name))
        except Exception:
            pass  # only the names of things

    def beside(self, other):
        """Whether `other`, which records the time, has the times of this one."""
        return other.every == self.every and (other.at is None) == (self.at is None)


class Traces:
    def __init__(self, h, numpy):
        self.h, self.numpy = h, numpy
        self.cvode = None
        self.session = None
        self.send = None  # set while someone follows
        self.why_not = ""
        self._plans = {}  # number of a hoc Vector -> Plan
        self._numbers = {}  # name -> recorder
        self._sent = {}  # name -> (number of the vector, samples, last time, last value)
        self._anew = set()  # names whose vectors began again
        self._noted = set()
        self._next = 0.0
        self._type = type(h.Vector())
        try:
            self._watch()
        except TypeError:  # before NEURON 9 all objects of hoc are of one type that can't be told
            self.why_not = "vectors can be followed with NEURON 9 and later"

    def _watch(self):
        plans, h = self._plans, self.h

        def record(vector, *args, **kwargs):
            result = vector.baseattr("record")(*args, **kwargs)
            plans[_number(vector)] = Plan(h, args)
            return result

        def play_remove(vector, *args):
            result = vector.baseattr("play_remove")(*args)
            plans.pop(_number(vector), None)
            return result

        self._type.record = record
        self._type.play_remove = play_remove

    # -- finding them -------------------------------------------------------------------------------------------------

    def _found(self):
        """[(name, vector, number, plan)] of the script's vectors that record, each once."""
        out, seen = [], set()
        if not self._plans:
            return out

        def look(name, value, depth):
            if isinstance(value, self._type):
                number = _number(value)
                plan = self._plans.get(number)
                if plan is not None and number not in seen:
                    seen.add(number)
                    out.append((name[:LABEL_CHARACTERS], value, number, plan))
            elif depth and type(value) in (list, tuple) and len(value) <= MOST_ITEMS:
                for i, item in enumerate(value):
                    look(f"{name}[{i}]", item, depth - 1)
            elif depth and type(value) is dict and len(value) <= MOST_ITEMS:
                for key, item in list(value.items()):
                    look(f"{name}[{key!r}]", item, depth - 1)

        for name, value in list((getattr(self.session, "_spaces", None) or {}).items()):
            if not name.startswith("_"):
                look(name, value, 2)
        return out

    def _recorder(self, name):
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def list(self):
        """For the route `recorders`."""
        return [{"id": self._recorder(name), "kind": "samples", "model": "Vector", "label": name, "n_events": len(vector),
                 "columns": [plan.column], "record_to": "memory"} for name, vector, _, plan in self._found() if not plan.is_time]

    # -- following ----------------------------------------------------------------------------------------------------

    def follow(self, send):
        self.send = send
        self._sent, self._anew, self._noted = {}, set(), set()
        if send and self.why_not:
            send({"topic": "note", "text": self.why_not})
        elif send:
            self.read(True)

    def before_init(self):
        """finitialize is about to empty the vectors."""
        if self.send:
            self.read(True)
            self._anew.update(self._sent)

    def after_init(self):
        # a vector that holds more than its first sample now does not record any more: its number is another's
        if self._plans:
            for _, vector, number, plan in self._found():
                if len(vector) > 1:
                    del self._plans[number]

    def read(self, now):
        """Sends what was recorded since; not `now`: unless that would take too much of the time."""
        started = time.perf_counter()
        if self.send is None or (not now and started < self._next):
            return
        try:
            self._read()
        except OSError:  # the channel
            raise
        except Exception as error:  # never in the way of the run
            self.send({"topic": "note", "text": f"the vectors can't be read: {type(error).__name__}: {error}"[:4000]})
        self._next = started + (time.perf_counter() - started) / SHARE

    def _read(self):
        numpy = self.numpy
        found = self._found()
        clocks = [(plan, vector.as_numpy()) for _, vector, _, plan in found if plan.is_time]
        for name, vector, number, plan in found:
            if plan.is_time:
                continue
            values = vector.as_numpy()
            times = self._times(plan, values, clocks)
            if times is None:
                if name not in self._noted:
                    self._noted.add(name)
                    self.send({"topic": "note", "text": NO_TIMES.format(name)})
                continue
            before, count, last_time, last_value = self._sent.get(name, (number, 0, 0.0, 0.0))
            anew = name in self._anew or before != number or len(values) < count
            if not anew and count:  # emptied and filled again without finitialize
                anew = times[count - 1] != last_time or not (values[count - 1] == last_value or last_value != last_value)
            if anew:
                count = 0
            if count == len(values) and not anew:
                continue
            self._anew.discard(name)
            times, values = numpy.array(times[count:]), numpy.array(values[count:])  # copies: a vector that grows moves
            self._emit(name, plan, times, values, anew)
            if len(values):
                self._sent[name] = (number, count + len(values), float(times[-1]), float(values[-1]))
            else:
                self._sent[name] = (number, 0, 0.0, 0.0)

    def _emit(self, name, plan, times, values, anew):
        recorder = self._recorder(name)
        for start in range(0, max(1, len(times)), ROWS):
            part = slice(start, start + ROWS)
            event = {"topic": "samples", "recorder": recorder, "model": "Vector", "label": name, "times": times[part],
                     "senders": self.numpy.full(len(times[part]), recorder), "values": {plan.column: values[part]},
                     "units": {plan.column: plan.unit} if plan.unit else {}}
            if anew and not start:
                event["restart"] = True
            self.send(event)

    def _times(self, plan, values, clocks):
        """The times of a vector's samples; None if they can't be known."""
        size = len(values)
        if plan.at is not None:
            at = plan.at.as_numpy()
            return at[:size] if len(at) >= size else None
        for clock, times in clocks:
            if plan.beside(clock) and len(times) == size:
                return times
        if plan.every:
            return self.numpy.arange(size) * plan.every
        if self.cvode is not None and self.cvode.active():
            return None
        dt = self.h.dt
        if size and abs((size - 1) * dt - self.h.t) > 1.5 * dt:
            return None  # the step was changed, or the time was set
        return self.numpy.arange(size) * dt


def _number(vector):
    return int(vector.hname()[7:-1])  # Vector[12]
