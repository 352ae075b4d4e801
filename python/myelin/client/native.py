"""``Client``: sessions, branches, streams, closed loops, jobs, runs and files of a Myelin server, from Python."""

import json
import os
import socket
import time
import urllib.parse
import warnings

from . import cbor
from .errors import ConflictError, DeadlineError, GoneError, MyelinError, NotFoundError, UnavailableError, UnreachableError, problem
from .functions import Functions
from .nest import _plain
from .transport import Transport, quoted, quoted_path
from .websocket import Closed, WebSocket

__all__ = ["Checkpoint", "Client", "Files", "Job", "Loop", "Result", "Run", "Session", "Stream", "Tokens"]

_JSON = {"Accept": "application/json"}
_QUIET_S = 30.0  # a stream that is silent for so long is asked whether it lives


class Client:
    """A server, and who asks.

    ``url``: ``http://HOST:PORT`` or ``unix:PATH``; else MYELIN_URL, else ``http://127.0.0.1:52425``. ``token``: else MYELIN_TOKEN.
    ``socket``: the path of the server's Unix socket, which needs no token. ``timeout``: seconds to wait for an answer; None waits for
    as long as the simulation takes. Threads may share a client; each call then has a connection of its own.
    """

    def __init__(self, url=None, token=None, socket=None, timeout=None):
        if url is None and socket is None:
            url = os.environ.get("MYELIN_URL") or None
        self._transport = Transport(url, token or os.environ.get("MYELIN_TOKEN") or None, socket, timeout)
        self.files = Files(self, "/v1/files")
        self.tokens = Tokens(self)
        self.functions = Functions(self)

    def __repr__(self):
        return "Client(%r)" % self._transport.where

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the idle connections. Sessions and jobs stay as they are."""
        self._transport.close()

    def _ask(self, method, path, content=None, headers=None):
        return self._transport.request(method, path, content, headers)

    def _value(self, method, path, content=None):
        return self._ask(method, path, content, _JSON).value()

    # -- the server

    def health(self):
        """What the server says of itself to everybody; needs no token."""
        return self._value("GET", "/v1/health")

    def status(self):
        return self._value("GET", "/v1/status")

    def metrics(self):
        """Prometheus text."""
        return self._ask("GET", "/v1/metrics", headers={"Accept": "text/plain"}).value()

    def engines(self):
        """A list of dicts: name, version, ready, branches, why_not …"""
        return self._value("GET", "/v1/engines")["engines"]

    # -- sessions

    def session(self, engine="nest", name=None):
        """A session of ``engine``. With a ``name`` that you have on this engine already, that session; else a new one. As a context manager
        it ends what it made, and leaves what was there."""
        if name is not None:
            known = self._named(engine, name)
            if known is not None:
                return known
        content = {"engine": engine}
        if name is not None:
            content["name"] = name
        try:
            return Session(self, self._value("POST", "/v1/sessions", content), made=True)
        except ConflictError:
            known = name and self._named(engine, name)  # somebody was faster
            if not known:
                raise
            return known

    def _named(self, engine, name):
        found = [s for s in self._value("GET", "/v1/sessions")["sessions"]
                 if s.get("name") == name and s.get("engine") == engine and s.get("state") != "ended"]
        if len(found) > 1:  # an operator sees everybody's
            me = self.status().get("user")
            found = [s for s in found if s.get("user") == me]
        return Session(self, found[0]) if found else None

    def attach(self, session_id):
        """The session with this id, also one that has ended (for 7 days)."""
        return Session(self, self._value("GET", "/v1/sessions/" + quoted(session_id)))

    def sessions(self):
        return [Session(self, info) for info in self._value("GET", "/v1/sessions")["sessions"]]

    # -- runs and jobs

    def jobs(self):
        """Jobs that run, and those that are done and not expired."""
        return [Job(self, info) for info in self._value("GET", "/v1/jobs")["jobs"]]

    def job(self, job_id):
        return Job(self, self._value("GET", "/v1/jobs/" + quoted(job_id)))

    def runs(self, engine=None, state=None, session=None, title=None, since=None, until=None, limit=50, after=None):
        """The newest runs that fit, at most ``limit`` (None: all). ``since``, ``until``: ISO 8601 text or a datetime."""
        wanted = {"engine": engine, "state": state, "session": session, "title": title, "since": since, "until": until, "after": after}
        wanted = {k: v.isoformat() if hasattr(v, "isoformat") else str(v) for k, v in wanted.items() if v is not None}
        found = []
        while limit is None or len(found) < limit:
            wanted["limit"] = 200 if limit is None else min(limit - len(found), 200)
            page = self._value("GET", "/v1/runs?" + urllib.parse.urlencode(wanted))
            found += [Run(self, info) for info in page["runs"]]
            if not page.get("next") or not page["runs"]:
                break
            wanted["after"] = page["next"]
        return found

    def sweep(self, what, grid=None, points=None, parameters=None, source=None, returns=None, title=None, keep=True, timeout_s=None, seed=None):
        """A Job over many points: ``grid`` (name -> values) or ``points`` (a list of dicts). ``what``: a function's name, with ``parameters``
        that are the same for all; or a Session, of which each point is a branch that runs ``source`` with the point's values as globals and
        gives ``returns``. The job's result has one array for each value."""
        content = {"grid": grid, "points": points, "title": title, "timeout_s": timeout_s, "seed": seed}
        if isinstance(what, Session):
            content.update(session=what.id, source=source or "", **{"return": returns})
        else:
            content.update(function=getattr(what, "id", what), parameters=dict(parameters or {}))
        content = {name: value for name, value in content.items() if value is not None}
        if not keep:
            content["keep"] = False
        return Job(self, self._value("POST", "/v1/sweeps", content))

    def run(self, run_id):
        return Run(self, self._value("GET", "/v1/runs/" + quoted(run_id)))


class Result:
    """What a call gave: ``data`` (a value, or a dict for a list of names), ``stdout``, and the ``run`` it was kept as, or None.
    ``result["v"]`` is one of several. Arrays are numpy arrays, but the server sends those of up to 64 values as lists."""

    def __init__(self, data, stdout, run=None):
        self.data, self.stdout, self.run = data, stdout, run

    def __getitem__(self, name):
        return self.data[name]

    def __repr__(self):
        return "Result(data=%s, stdout=%r%s)" % (_short(self.data), self.stdout, ", run=%s" % self.run.id if self.run else "")


class _Object:
    """Something of the server with an id. ``info``: its object as it was last seen; ``refresh()`` looks again."""

    _path = None

    def __init__(self, client, info):
        self._client, self.info = client, info

    @property
    def id(self):
        return self.info["id"]

    def _at(self, rest=""):
        return self._path + quoted(self.id) + rest

    def _ask(self, method, rest="", content=None, headers=None):
        return self._client._ask(method, self._at(rest), content, headers)

    def refresh(self):
        self.info = self._ask("GET", headers=_JSON).value()
        return self

    def __repr__(self):
        words = [str(self.info[k]) for k in ("name", "title", "engine", "state") if self.info.get(k)]
        return "<%s %s%s>" % (type(self).__name__, self.id, " " + " ".join(words) if words else "")

    def __eq__(self, other):
        return type(other) is type(self) and other.id == self.id

    def __hash__(self):
        return hash(self.id)


class Session(_Object):
    """A process of your own with an engine in it. Variables stay from call to call, as in a notebook."""

    _path = "/v1/sessions/"

    def __init__(self, client, info, made=False):
        super().__init__(client, info)
        self._made = made
        self.files = Files(client, self._at("/files"))
        self.functions = _Functions(self)

    name = property(lambda self: self.info.get("name"))
    engine = property(lambda self: self.info.get("engine"))

    @property
    def state(self):
        """starting, idle, busy or ended, as of now."""
        return self.refresh().info["state"]

    @property
    def nest(self):
        """``session.nest.Create("iaf_psc_alpha", 3)``: the engine's functions as attributes."""
        return self.functions

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._made:
            try:
                self.delete()
            except MyelinError as error:
                if error.code not in ("gone", "not_found", "worker_lost"):
                    raise

    # -- calls

    def exec(self, source, returns=None, keep=False, fresh=False, title=None, timeout_s=None, inputs=None):
        """Runs a script and waits. ``returns``: a name, or a list of names; ``keep``: as a run; ``fresh``: without earlier variables;
        ``inputs``: the runs (or their ids) that a kept one was made from; ``timeout_s``: the server interrupts it then. Ctrl-C
        interrupts it as well."""
        answer = self._interruptible("/exec", _script(source, returns, keep, fresh, title, timeout_s, inputs))
        return _result(self._client, answer)

    def call(self, function, *args, **kwargs):
        """A function of the engine, or of the session's variables; what it returned."""
        return self._interruptible("/call", {"function": function, "args": list(args), "kwargs": kwargs}).value()["data"]

    def _interruptible(self, rest, content):
        try:
            return self._ask("POST", rest, content)
        except KeyboardInterrupt:
            try:
                self.interrupt()
            except MyelinError:
                pass
            raise

    def submit(self, source, returns=None, keep=False, fresh=False, title=None, timeout_s=None, inputs=None):
        """As exec, without waiting: a Job."""
        return self._job("/exec", _script(source, returns, keep, fresh, title, timeout_s, inputs))

    def submit_call(self, function, *args, **kwargs):
        """As call, without waiting: a Job."""
        return self._job("/call", {"function": function, "args": list(args), "kwargs": kwargs})

    def _job(self, rest, content):
        answer = self._ask("POST", rest, content, dict(_JSON, Prefer="respond-async"))
        if answer.status != 202:
            raise UnavailableError("this server knows no jobs: it has run the call at once")
        return Job(self._client, answer.value())

    def interrupt(self):
        """Interrupts the running call. False where nothing ran."""
        try:
            self._ask("POST", "/interrupt", headers=_JSON)
        except ConflictError:
            return False
        return True

    # -- branches

    def branch(self, count=None, names=None):
        """Sessions that continue from the state of this one: a list of ``count``; without a count, one session."""
        content = {"count": count or (len(names) if names else 1)}
        if names:
            content["names"] = list(names)
        answer = self._ask("POST", "/branch", content, _JSON).value()
        _tell_evicted(answer)
        made = [Session(self._client, info, made=True) for info in answer["sessions"]]
        return made if count is not None or names else made[0]

    def checkpoint(self, name=None):
        """Keeps this state, to come back to by ``rewind``."""
        answer = self._ask("POST", "/checkpoints", {} if name is None else {"name": name}, _JSON).value()
        _tell_evicted(answer)
        return Checkpoint(self, answer)

    def checkpoints(self):
        return [Checkpoint(self, info) for info in self._ask("GET", "/checkpoints", headers=_JSON).value()["checkpoints"]]

    def rewind(self, checkpoint):
        """Back to a checkpoint (or its id). The session keeps its id, the checkpoint stays. A session that died is made anew:
        then ``id`` is another."""
        self.info = self._ask("POST", "/rewind", {"checkpoint": getattr(checkpoint, "id", checkpoint)}, _JSON).value()
        return self

    # -- watching

    def output(self):
        """The newest 1 MiB of what it printed."""
        return self._ask("GET", "/output", headers={"Accept": "text/plain"}).data.decode("utf-8", "replace")

    def recorders(self):
        return self._ask("GET", "/recorders", headers=_JSON).value()["recorders"]

    def stream(self, topics=None, after=None, recorders=None):
        """The session's events as they come, an iterator of dicts; see Stream. ``topics``: e.g. ["spikes", "progress"], else all;
        ``after``: the ``seq`` of the last event that you have; ``recorders``: ids, else all."""
        return Stream(self, topics, after, recorders)

    def loop(self):
        """A connection for closed loops, where each step is one short message; see Loop."""
        return Loop(self)

    def delete(self):
        """Ends it. Its branches and its runs stay."""
        self._ask("DELETE")


class _Functions:
    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        if name.startswith("_"):
            # Copying, pickling and notebooks probe for such names; none is a function of an engine.
            raise AttributeError(name)

        def function(*args, **kwargs):
            return self._session.call(name, *args, **kwargs)

        function.__name__ = function.__qualname__ = name
        return function


class Checkpoint:
    """A state that is kept: ``id``, ``name``, ``info``."""

    def __init__(self, session, info):
        self.session, self.info = session, info
        self.id, self.name = info["id"], info.get("name")

    def rewind(self):
        return self.session.rewind(self)

    def delete(self):
        self.session._ask("DELETE", "/checkpoints/" + quoted(self.id))

    def __repr__(self):
        return "<Checkpoint %s%s of %s>" % (self.id, " %r" % self.name if self.name else "", self.session.id)


class Stream:
    """An iterator of events, each a dict with ``seq`` and ``topic``; arrays are numpy arrays.

    It reconnects by itself and goes on after the last event that it gave, so that nothing is missed and nothing comes twice; each
    connection begins with the session's present ``state``. It ends when the session does, or by ``close()`` (also from
    another thread). ``seq`` is what a later ``stream(after=…)`` needs."""

    def __init__(self, session, topics=None, after=None, recorders=None):
        self._session, self.seq = session, after
        self._wanted = {"format": "cbor"}
        if topics is not None:
            self._wanted["topics"] = topics if isinstance(topics, str) else ",".join(topics)
        if recorders is not None and recorders != "all":
            self._wanted["recorders"] = ",".join(str(r) for r in recorders)
        self._socket, self._first, self._closed, self._over = None, False, False, False
        self._pause_s, self._reconnected = 0.1, False

    def __iter__(self):
        return self

    def __enter__(self):
        self._connect()  # now: what is begun inside is seen from its begin
        return self

    def __exit__(self, *_):
        self.close()

    def __next__(self):
        while not self._closed and not self._over:
            try:
                event = self._receive()
            except (Closed, OSError):
                self._lost()
                continue
            except UnreachableError:
                if not self._reconnected:
                    raise  # it never was there
                self._lost()
                continue
            self._pause_s = 0.1
            topic, seq, first = event.get("topic"), event.get("seq"), self._first
            self._first = False
            if topic == "state":
                self._over = event.get("state") == "ended"
                if first and seq is not None:
                    # The present state, not a step of the sequence: events before it may still come.
                    if self._reconnected and not self._over:
                        continue
                    return event
            if seq is not None:
                if self.seq is not None and seq <= self.seq:
                    continue
                self.seq = seq
            return event
        self.close()
        raise StopIteration

    def _connect(self):
        wanted = dict(self._wanted)
        if self.seq is not None:
            wanted["after"] = str(self.seq)
        path = self._session._at("/stream?" + urllib.parse.urlencode(wanted, safe=","))
        try:
            self._socket = WebSocket(self._session._client._transport, path)
        except GoneError as error:
            if not self._reconnected:
                raise
            return {"seq": None, "topic": "state", "state": "ended", "cause": {"text": error.detail}}  # while the connection was away
        except UnavailableError as error:
            if not self._reconnected:
                raise
            raise Closed(reason=str(error)) from error
        if self._closed:
            raise Closed()
        self._socket.settimeout(_QUIET_S)
        self._first = True
        return None

    def _receive(self):
        if self._socket is None:
            over = self._connect()
            if over is not None:
                return over
        asked = False
        while True:
            try:
                data = self._socket.receive()
            except socket.timeout:
                if asked:
                    raise Closed(reason="silent") from None
                asked = True
                self._socket.ping()
                continue
            event = cbor.loads(data) if isinstance(data, bytes) else json.loads(data)
            for name in ("times", "senders"):
                if name in event:
                    event[name] = _array(event[name])
            if "values" in event:
                event["values"] = {column: _array(values) for column, values in event["values"].items()}
            return event

    def _lost(self):
        if self._socket is not None:
            self._socket.close()
        self._socket, self._reconnected = None, True
        if self._closed:
            return
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, 5.0)

    def close(self):
        self._closed = True
        if self._socket is not None:
            self._socket.close()


class Loop:
    """One message in, one message out, in order: for loops in which something outside reads and sets the simulation.

    An error is raised and the loop stays open. A loop whose connection breaks is over: what a step did is not known then."""

    def __init__(self, session):
        self._socket = WebSocket(session._client._transport, session._at("/loop?format=cbor"))

    def step(self, set=None, advance=None, get=None):
        """NEST: sets parameters, advances by ``advance`` ms, reads. ``set``: a list of (nodes, {key: value}) or of the wire's dicts;
        ``get``: a list of (nodes, [keys]) or dicts. Returns {"time_ms": …, "get": [{key: array}, …]}."""
        message = {}
        if set is not None:
            message["set"] = [one if isinstance(one, dict) else {"nodes": one[0], "params": one[1]} for one in set]
        if advance is not None:
            message["advance"] = advance
        if get is not None:
            message["get"] = [one if isinstance(one, dict) else {"nodes": one[0], "keys": one[1]} for one in get]
        answer = self._exchange(message)
        if "get" in answer:
            answer["get"] = [{key: _array(values) for key, values in one.items()} for one in answer["get"]]
        return answer

    def call(self, function, *args):
        """A function that the session has defined; what it returned."""
        return self._exchange({"call": function, "args": list(args)})["data"]

    def _exchange(self, message):
        try:
            self._socket.send(json.dumps(message, default=_plain))
            data = self._socket.receive()
        except Closed as error:
            raise UnreachableError("the loop is over: %s" % error) from error
        except socket.timeout as error:
            self._socket.close()
            raise DeadlineError("no answer within the client's timeout; the loop is over, the step may still run") from error
        except BaseException:
            self._socket.close()  # an answer may still come, and would be taken for the next one
            raise
        answer = cbor.loads(data) if isinstance(data, bytes) else json.loads(data)
        if answer.get("error"):
            raise problem(answer["error"])
        return answer

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Run(_Object):
    """What is kept of a call. ``run["v"]`` is a dataset as a numpy array, ``run.datasets`` describes all by name."""

    _path = "/v1/runs/"

    @property
    def datasets(self):
        return {d["name"]: d for d in self.info.get("datasets") or []}

    state = property(lambda self: self.refresh().info["state"])
    title = property(lambda self: self.info.get("title"))

    def __getitem__(self, name):
        rest = "/datasets/%s?format=cbor" % quoted(name)
        try:
            return _array(self._ask("GET", rest).value())
        except NotFoundError as error:
            raise KeyError("%s has no dataset %r; it has: %s" % (self.id, name, ", ".join(self.datasets) or "none")) from error

    def result(self):
        """What the call answered: a Result."""
        return _result(self._client, self._ask("GET", "/result"))

    def export(self, path, format=None):
        """Writes all datasets to a file: npz, csv (a zip), cbor or rocrate (a zip); by the file's ending unless given, .zip is rocrate.
        Returns the path."""
        path = os.fspath(path)
        endings = {".npz": "npz", ".zip": "rocrate", ".cbor": "cbor"}
        format = format or ("csv" if path.endswith(".csv.zip") else endings.get(os.path.splitext(path)[1].lower()))
        if format is None:
            raise ValueError("say the format of %s: npz, csv, cbor or rocrate" % path)
        _download(self._client, self._at("/export?format=" + quoted(format)), path)
        return path

    def rerun(self):
        """Runs it again: a Job, whose ``info`` has ``comparison`` when it is done."""
        return Job(self._client, self._ask("POST", "/rerun", {}, _JSON).value())

    def compare(self, other):
        """A dict: identical, datasets, differs (texts)."""
        query = urllib.parse.urlencode({"a": self.id, "b": getattr(other, "id", other)})
        return self._client._value("GET", "/v1/runs/compare?" + query)

    def update(self, **members):
        """``title=``, ``expires_at=`` (ISO 8601 text, or None to keep it for good)."""
        self._ask("PATCH", "", members, _JSON)
        return self.refresh()

    def delete(self):
        self._ask("DELETE")


class Job(_Object):
    """A call that nobody has to wait for."""

    _path = "/v1/jobs/"

    @property
    def done(self):
        return self.info.get("state") not in ("queued", "running") or self.refresh().info["state"] not in ("queued", "running")

    @property
    def state(self):
        """queued, running, done, failed, cancelled or lost, as of now."""
        self.done
        return self.info["state"]

    @property
    def progress(self):
        """0 to 1, as of now; None where the engine can't tell."""
        if self.done:
            return 1.0 if self.info["state"] == "done" else None
        return (self.info.get("progress") or {}).get("done")

    def wait(self, callback=None, timeout=None):
        """Waits for the end. ``callback(job)`` is called at each look; ``timeout``: seconds, then TimeoutError. Returns the job."""
        until = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while True:
            done = self.done
            if callback is not None:
                callback(self)
            if done:
                return self
            if until is not None and time.monotonic() > until:
                raise TimeoutError("%s is still %s" % (self.id, self.info["state"]))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def result(self, timeout=None):
        """Waits, then what the call gave: a Result. Raises what the call raised."""
        self.wait(timeout=timeout)
        return _result(self._client, self._ask("GET", "/result"), Run(self._client, self.info))

    def cancel(self):
        self._ask("POST", "/cancel", headers=_JSON)

    def forget(self):
        """Cancels it and deletes its result."""
        self._ask("DELETE")


class Files:
    """Files by their path: of a session's working directory (``session.files``) or of ``~/work`` (``client.files``)."""

    def __init__(self, client, base):
        self._client, self._base = client, base

    def _at(self, path, query=""):
        return self._base + "/" + quoted_path(path) + query

    def list(self, path=""):
        """A list of dicts: name, type (file, directory, link), bytes, modified_at."""
        return self._client._value("GET", self._at(path))["entries"]

    def get(self, path):
        """The bytes of a file."""
        return self._client._ask("GET", self._at(path), headers={"Accept": "*/*"}).data

    def put(self, path, data):
        """Writes bytes, text, or what an open binary file holds."""
        body = data.encode() if isinstance(data, str) else data
        headers = {"Content-Type": "application/octet-stream"}
        if hasattr(body, "fileno"):  # else http.client sends it chunked
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size - body.tell())
        self._client._transport.request("PUT", self._at(path), headers=headers, body=body)

    def download(self, path, to):
        """Copies a file to this machine. Returns where it is."""
        to = os.fspath(to)
        _download(self._client, self._at(path), to)
        return to

    def upload(self, file, path=None):
        """Copies a file from this machine; ``path``: its name there (the same)."""
        with open(file, "rb") as stream:
            self.put(path or os.path.basename(os.fspath(file)), stream)

    def mkdir(self, path):
        self._client._transport.request("PUT", self._at(path, "?directory"))

    def delete(self, path):
        self._client._ask("DELETE", self._at(path))


class Tokens:
    """Who may use the server; for its operator."""

    def __init__(self, client):
        self._client = client

    def list(self):
        return self._client._value("GET", "/v1/tokens")["tokens"]

    def add(self, name):
        """The new token of ``name``. It is shown this once."""
        return self._client._value("POST", "/v1/tokens", {"name": name})["token"]

    def remove(self, name):
        self._client._ask("DELETE", "/v1/tokens/" + quoted(name))


def _script(source, returns, keep, fresh, title, timeout_s, inputs):
    content = {"source": source}
    if returns is not None:
        content["return"] = returns if isinstance(returns, str) else list(returns)
    wanted = {"keep": keep, "fresh": fresh, "title": title, "timeout_s": timeout_s}
    if inputs is not None:
        wanted["inputs"] = [getattr(run, "id", run) for run in inputs]
    content.update({k: v for k, v in wanted.items() if v not in (None, False)})
    return content


def _result(client, answer, run=None):
    value, run_id = answer.value(), answer.headers.get("Myelin-Run")
    if run_id and run is None:
        run = Run(client, {"id": run_id})
        try:
            run.refresh()
        except MyelinError:
            pass  # deleted meanwhile; what it gave is here
    return Result(value.get("data"), value.get("stdout") or "", run)


def _download(client, path, to):
    beside = to + ".part"  # a broken download never looks like a whole one
    try:
        with open(beside, "wb") as file:
            client._transport.request("GET", path, headers={"Accept": "*/*"}, into=file)
        os.replace(beside, to)
    except BaseException:
        if os.path.exists(beside):
            os.remove(beside)
        raise


def _tell_evicted(answer):
    gone = [str(c.get("name") or c.get("id")) for c in answer.get("evicted") or []]
    if gone:
        warnings.warn("dropped to make room: checkpoint %s" % ", ".join(gone), stacklevel=3)


def _array(value):
    """Short arrays come as lists: numpy arrays all the same, where there is numpy."""
    return cbor.numpy.asarray(value) if cbor.numpy is not None and isinstance(value, list) else value


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
