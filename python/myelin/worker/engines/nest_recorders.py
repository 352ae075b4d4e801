"""Recorders of NEST that are followed: what they recorded is taken out of the kernel at slices, sent, and kept here.

Reading `events` copies all of it each time, so a recorder is emptied after each reading (`n_events = 0`). Who reads `events` or
`n_events` of it later, by PyNEST or through this server, finds everything in NEST's own order, as if nothing had been taken.
"""

import time

MODELS = {
    "spike_recorder": "spikes",
    "spin_detector": "spikes",
    "multimeter": "samples",
    "voltmeter": "samples",
    "correlation_detector": None,
}
UNITS = {"V_m": "mV", "g_ex": "nS", "g_in": "nS", "I_syn": "pA", "I_syn_ex": "pA", "I_syn_in": "pA", "rate": "1/s", "w": "pA", "weights": "pA"}
SHARE = 0.04  # of the wall time that reading may take; with very many recorders they are read less often
FRAME_EVENTS = 20_000  # of one message


class Recorders:
    def __init__(self, nest, api, numpy, kernel):
        self.nest, self.api, self.numpy, self.kernel = nest, api, numpy, kernel
        self.send = None  # set while someone follows
        self._known = None  # {id: (collection of one, kind, model)}; None: to be looked up
        self._kept = {}  # id -> [{column: array}, …], oldest first
        self._next = 0.0
        self._get = api.llapi_get_nc_status
        self._set = api.llapi_set_nc_status
        api.llapi_get_nc_status = self.get
        api.llapi_set_nc_status = self.set

    # -- what was recorded, as PyNEST shows it ------------------------------------------------------------------------

    def _ids(self, datum):
        return [int(i) for i in self.api.llapi_node_collection_to_array(datum, "all")]

    def get(self, datum, key=None):
        value = self._get(datum) if key is None else self._get(datum, key)
        if not self._kept or key not in (None, "events", "n_events"):
            return value
        ids = self._ids(datum)
        if not any(i in self._kept for i in ids):
            return value
        if key is not None:
            return self._put(ids, key, value)
        for name in ("events", "n_events"):
            if name in value:
                value[name] = self._put(ids, name, value[name])
        return value

    def _put(self, ids, key, value):
        whole = self._whole if key == "events" else self._count
        if isinstance(value, (dict, int)):
            return whole(ids[0], value)
        return type(value)(whole(i, one) for i, one in zip(ids, value))

    def _count(self, i, present):
        return present + sum(len(chunk["times"]) for chunk in self._kept.get(i, ()))

    def _whole(self, i, present):
        chunks = list(self._kept.get(i, ()))
        if not chunks or not isinstance(present, dict):
            return present
        if len(present.get("times", ())):
            chunks.append(present)
        numpy = self.numpy
        merged = {name: numpy.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        threads = self.kernel.threads()
        if threads > 1 and len(chunks) > 1:
            # NEST lists what its first thread recorded, then the second's …; a node lives on the thread of its id
            order = numpy.argsort(merged["senders"].astype(numpy.int64) % threads, kind="stable")
            merged = {name: column[order] for name, column in merged.items()}
        if len(chunks) > 1 and not len(present.get("times", ())):
            self._kept[i] = [dict(merged)]
        return merged

    def set(self, datum, params):
        result = self._set(datum, params)
        if self._kept:
            ids = self._ids(datum)
            for position, i in enumerate(ids):
                given = params[position] if len(params) == len(ids) else params[0]
                if i in self._kept and ("n_events" in given or "record_to" in given):
                    del self._kept[i]
        return result

    # -- following ----------------------------------------------------------------------------------------------------

    def forget(self):
        """The kernel was reset."""
        self._known = None
        self._kept = {}

    def grown(self):
        self._known = None

    def known(self):
        if self._known is None:
            self._known = {}
            for collection in self.nest.GetNodes({"element_type": "recorder"}):
                model = str(collection.get("model"))
                base = model
                while base not in MODELS:  # a copy of a model
                    parent = self.nest.GetDefaults(base).get("type_id")
                    if parent is None or str(parent) == base:
                        break
                    base = str(parent)
                kind = MODELS.get(base)
                if kind:
                    self._known[int(collection.get("global_id"))] = (collection, kind, model)
        return self._known

    def list(self):
        """For the route `recorders`."""
        out = []
        for i, (collection, kind, model) in self.known().items():
            status = collection.get()
            columns = [str(name) for name in status.get("record_from", ())]
            out.append({"id": i, "kind": kind, "model": model, "label": str(status.get("label", "")), "n_events": int(status["n_events"]),
                        "columns": columns, "record_to": str(status.get("record_to", "memory"))})
        return out

    def follow(self, send):
        """`send(dict)` gets what is recorded from now on, after what is there already."""
        self.send = send
        for i, (collection, kind, model) in self.known().items():
            for chunk in self._kept.get(i, ()):
                self._emit(i, collection, kind, model, chunk)
        self.drain(True)

    def drain(self, now):
        """Reads, sends and empties all recorders; not `now`: unless that would take too much of the time."""
        started = time.perf_counter()
        if not now and started < self._next:
            return
        for i, (collection, kind, model) in self.known().items():
            datum = collection._datum
            status = self._get(datum)  # any one key costs as much: NEST copies all events for each reading
            if status["record_to"][0] not in ("memory", "Memory"):  # columns: each value is a tuple of one
                continue
            events = status["events"][0]
            if not len(events["times"]):
                continue
            chunk = {name: self.numpy.asarray(column) for name, column in events.items()}
            self._set(datum, [{"n_events": 0}])
            self._kept.setdefault(i, []).append(chunk)
            self._emit(i, collection, kind, model, chunk)
        took = time.perf_counter() - started
        self._next = started + took / SHARE

    def _emit(self, i, collection, kind, model, chunk):
        label = str(self._get(collection._datum, "label"))
        times = self._times(chunk, collection)
        for start in range(0, len(times), FRAME_EVENTS):
            part = slice(start, start + FRAME_EVENTS)
            event = {"topic": kind, "recorder": i, "model": model, "label": label, "times": times[part], "senders": chunk["senders"][part]}
            if kind == "samples":
                columns = {name: column[part] for name, column in chunk.items() if name not in ("times", "senders", "offsets")}
                event["values"] = columns
                event["units"] = {name: UNITS[name] for name in columns if name in UNITS}
            self.send(event)

    def _times(self, chunk, collection):
        times = chunk["times"]
        if "offsets" in chunk:  # time_in_steps
            return times * self.nest.GetKernelStatus("resolution") - chunk["offsets"]
        return times
