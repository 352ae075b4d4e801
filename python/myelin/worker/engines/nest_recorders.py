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
    "weight_recorder": "samples",
}
UNITS = {"V_m": "mV", "g_ex": "nS", "g_in": "nS", "I_syn": "pA", "I_syn_ex": "pA", "I_syn_in": "pA", "rate": "1/s", "w": "pA"}
OF_CONNECTIONS = ["ports", "receptors", "targets", "weights"]  # the columns of a weight_recorder; a weight's unit is its synapse's
SHARE = 0.04  # of the wall time that reading may take; with very many recorders they are read less often
FRAME_EVENTS = 20_000  # of one message, at most
FRAME_BYTES = 640 << 10  # ... and its arrays; a frame has 1 MiB
LABEL_CHARACTERS = 1000
ELSEWHERE = "what recorders write elsewhere than to memory is not streamed: "
LATER = "what is recorded to memory comes after this simulation: recorders can be emptied neither between Prepare and Cleanup nor while one writes a file"


class Recorders:
    def __init__(self, nest, api, numpy, kernel):
        self.nest, self.api, self.numpy, self.kernel = nest, api, numpy, kernel
        self.send = None  # set while someone follows
        self._known = {}  # id -> (collection of one, kind, model); None: to be looked up among all nodes
        self._kinds = {}  # model -> kind
        self._kept = {}  # id -> [{column: array}, …], oldest first: what was taken out
        self._taken = {}  # id -> how many events NEST no longer counts
        self._devices = {}  # sender -> whether it is a device
        self._next = 0.0
        self._told_later = False
        self._told_elsewhere = set()  # recorders
        self._one_process = api.llapi_get_kernel_status()["num_processes"] == 1
        self._get = api.llapi_get_nc_status
        self._set = api.llapi_set_nc_status
        api.llapi_get_nc_status = self.get
        api.llapi_set_nc_status = self.set

    # -- what was recorded, as PyNEST shows it ------------------------------------------------------------------------

    def _ids(self, datum):
        return [int(i) for i in self.api.llapi_node_collection_to_array(datum, "all")]

    def get(self, datum, key=None):
        if key == "local" and self._one_process:
            count = self.api.llapi_nc_size(datum)
            if count > 1 and self._there(datum):
                return (True,) * count
        value = self._get(datum) if key is None else self._get(datum, key)
        if not self._taken or key not in (None, "events", "n_events"):
            return value
        ids = self._ids(datum)
        if not any(i in self._taken for i in ids):
            return value
        if key is not None:
            return self._put(ids, key, value)
        for name in ("events", "n_events"):
            if name in value:
                value[name] = self._put(ids, name, value[name])
        return value

    def _there(self, datum):
        """Whether all nodes of a collection exist. Then they are all local where there is one process: PyNEST asks each of them at
        every `set`, and NEST makes the whole status of each for the answer, most of the time that a step of a closed loop takes."""
        try:
            last = self.api.llapi_make_nodecollection([max(self.api.llapi_node_collection_to_array(datum, "all"))])
            return self._get(last._datum, "local") is True
        except self.nest.NESTError:
            return False  # NEST itself says what is wrong

    def _put(self, ids, key, value):
        whole = self._whole if key == "events" else self._count
        if isinstance(value, (dict, int)):
            return whole(ids[0], value)
        return type(value)(whole(i, one) for i, one in zip(ids, value))

    def _count(self, i, present):
        return present + self._taken.get(i, 0)

    def _whole(self, i, present):
        chunks = list(self._kept.get(i, ()))
        if not chunks or not isinstance(present, dict):
            return present
        if len(present.get("times", ())):
            chunks.append(present)
        if len(chunks) == 1:
            return {name: column.copy() for name, column in chunks[0].items()}
        numpy = self.numpy
        merged = {name: numpy.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        threads = self.kernel.threads()
        if threads > 1:
            # NEST lists what its first thread recorded, then the second's …
            # a weight is recorded where its connection is: with its target
            found = self._threads_of(merged["targets" if "targets" in merged else "senders"], i, threads)
            order = numpy.argsort(found, kind="stable")
            merged = {name: column[order] for name, column in merged.items()}
        if chunks[-1] is not present:
            self._kept[i] = [{name: column.copy() for name, column in merged.items()}]  # the caller may change its own
        return merged

    def _threads_of(self, senders, recorder, threads):
        """The thread that recorded each event: a neuron's is that of its id; what devices send to a recorder is sent on the recorder's."""
        numpy = self.numpy
        senders = senders.astype(numpy.int64)
        unknown = [i for i in numpy.unique(senders).tolist() if i not in self._devices]
        if unknown:
            kinds = self._get(self.nest.NodeCollection(unknown)._datum, "element_type")
            for i, kind in zip(unknown, (kinds,) if isinstance(kinds, str) else kinds):
                self._devices[i] = str(kind) in ("stimulator", "recorder")
        devices = [i for i in numpy.unique(senders).tolist() if self._devices[i]]
        found = senders % threads
        if devices:
            found[numpy.isin(senders, devices)] = recorder % threads
        return found

    def set(self, datum, params):
        clears = any("n_events" in given or "record_to" in given for given in params) if self.send or self._taken else False
        if not clears:
            return self._set(datum, params)
        if self.send and not self.kernel.prepared():
            self.kernel.aside(lambda: self.drain(True))  # who follows gets what is dropped here
        result = self._set(datum, params)
        ids = self._ids(datum)
        for position, i in enumerate(ids):
            given = params[position] if len(params) == len(ids) else params[0]
            if "n_events" in given:
                self._kept.pop(i, None)
                self._taken.pop(i, None)
            elif "record_to" in given and str(given["record_to"]) != "memory":
                self._kept.pop(i, None)  # NEST forgets the events, not their number
        return result

    # -- following ----------------------------------------------------------------------------------------------------

    def before_reset(self):
        """What was recorded since the last look is sent; nothing of it is needed afterwards."""
        if self.send:
            self.drain(True, keep=False)

    def forget(self):
        """The kernel was reset."""
        self._known = {}
        self._kinds = {}
        self._kept = {}
        self._taken = {}
        self._devices = {}
        self._told_elsewhere = set()

    def created(self, model, made):
        """Nodes were made. Looking for recorders among all nodes takes a second where there are 10^5."""
        if self._known is None:
            return
        kind = self._kind(str(model))
        if kind is not None:
            for collection in made:
                self._known[int(collection.tolist()[0])] = (collection, kind, str(model))

    def grown(self):
        """Nodes were made in another way."""
        self._known = None

    def _kind(self, model):
        if model not in self._kinds:
            base = model
            while base not in MODELS:  # a copy of a model
                parent = self.nest.GetDefaults(base).get("type_id")
                if parent is None or str(parent) == base:
                    break
                base = str(parent)
            self._kinds[model] = MODELS.get(base)
        return self._kinds[model]

    def known(self):
        if self._known is None:
            self._known = {}
            for collection in self.nest.GetNodes({"element_type": "recorder"}):
                model = str(collection.get("model"))
                kind = self._kind(model)
                if kind is not None:
                    self._known[int(collection.get("global_id"))] = (collection, kind, model)
        return self._known

    def list(self):
        """For the route `recorders`."""
        out = []
        for i, (collection, kind, model) in self.known().items():
            status = collection.get()
            columns = [str(name) for name in status.get("record_from", OF_CONNECTIONS if kind == "samples" else ())]
            out.append({"id": i, "kind": kind, "model": model, "label": str(status.get("label", "")), "n_events": int(status["n_events"]),
                        "columns": columns, "record_to": str(status.get("record_to", "memory"))})
        return out

    def follow(self, send):
        """`send(dict)` gets what is recorded from now on, after what is there already."""
        self.send = send
        self._told_later = False
        self._told_elsewhere = set()
        for i, (collection, kind, model) in self.known().items():
            for chunk in self._kept.get(i, ()):
                self._emit(i, collection, kind, model, chunk)
        self.drain(True)

    def may_pause(self):
        """Whether Cleanup and Prepare in the middle of a simulation change nothing: Prepare begins files anew."""
        return all(self._get(collection._datum, "record_to") in ("memory", "screen") for collection, _, _ in self.known().values())

    def due(self):
        return self.send is not None and time.perf_counter() >= self._next

    def drain(self, now, keep=True):
        """Reads, sends and empties all recorders; not `now`: unless that would take too much of the time. `keep` false: what is read
        will not be asked for again."""
        started = time.perf_counter()
        if not now and started < self._next:
            return
        if keep and self.kernel.prepared():
            if not self._told_later:
                self._told_later = True
                self.send({"topic": "note", "text": LATER})
            return
        self._told_later = False
        try:
            elsewhere = []
            for i, (collection, kind, model) in self.known().items():
                where = self._drain_one(i, collection, kind, model, keep)
                if where and i not in self._told_elsewhere:
                    self._told_elsewhere.add(i)
                    elsewhere.append(where)
            if elsewhere:
                more = f" and {len(elsewhere) - 10} more" if len(elsewhere) > 10 else ""
                self.send({"topic": "note", "text": ELSEWHERE + ", ".join(elsewhere[:10]) + more})
        except OSError:  # the channel
            raise
        except Exception as error:  # never in the way of the simulation
            self.send({"topic": "note", "text": f"the recorders can't be read: {type(error).__name__}: {error}"[:4000]})
        self.took(started)

    def took(self, started):
        """Reading began then, and is over."""
        now = time.perf_counter()
        self._next = now + (now - started) / SHARE

    def _drain_one(self, i, collection, kind, model, keep):
        """Says where this recorder writes, if that is not memory."""
        datum = collection._datum
        status = self._get(datum)  # any one key costs as much: NEST copies all events for each reading
        if status["record_to"][0] != "memory":  # columns: each value is a tuple of one
            return f"{i} ({status['record_to'][0]})"
        count, events = status["n_events"][0], status["events"][0]
        if not count or not len(events["times"]):
            return
        chunk = {name: self.numpy.asarray(column) for name, column in events.items()}
        if keep:
            self._set(datum, [{"n_events": 0}])
            self._kept.setdefault(i, []).append(chunk)
            self._taken[i] = self._taken.get(i, 0) + count
        self._emit(i, collection, kind, model, chunk)

    def _emit(self, i, collection, kind, model, chunk):
        label = str(self._get(collection._datum, "label"))[:LABEL_CHARACTERS]
        times = self._times(chunk)
        rows = max(1, min(FRAME_EVENTS, FRAME_BYTES // (8 * (len(chunk) + 1))))
        for start in range(0, len(times), rows):
            part = slice(start, start + rows)
            event = {"topic": kind, "recorder": i, "model": model, "label": label, "times": times[part], "senders": chunk["senders"][part]}
            if kind == "samples":
                columns = {name: column[part] for name, column in chunk.items() if name not in ("times", "senders", "offsets")}
                event["values"] = columns
                event["units"] = {name: UNITS[name] for name in columns if name in UNITS}
            self.send(event)

    def _times(self, chunk):
        times = chunk["times"]
        if "offsets" in chunk:  # time_in_steps
            return times * self.kernel.resolution() - chunk["offsets"]
        return times
