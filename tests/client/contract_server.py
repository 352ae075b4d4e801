"""A tiny server that speaks spec/native-api.md on real sockets, for the clients' tests: sessions are dictionaries in this process.

It exists so that a client is tested against every answer of the contract, faults included; it simulates nothing.
"""

import base64
import copy
import ctypes
import hashlib
import http.server
import io
import itertools
import json
import pathlib
import socketserver
import struct
import sys
import threading
import traceback
import urllib.parse
import zipfile

import cbor2
import numpy

NOW = "2025-01-31T13:05:09.123Z"
TAGS = {"u1": 64, "i1": 72, "<i2": 77, "<i4": 78, "<i8": 79, "<f4": 85, "<f8": 86}


def to_cbor(value):
    def default(encoder, item):
        if isinstance(item, numpy.ndarray):
            tag = cbor2.CBORTag(TAGS[item.dtype.str.replace("|", "")], item.tobytes())
            encoder.encode(tag if item.ndim == 1 else cbor2.CBORTag(40, [list(item.shape), tag]))
        else:
            encoder.encode(item.item())
    return cbor2.dumps(value, default=default)


def to_json(value):
    return json.dumps(value, default=lambda item: item.tolist()).encode()


class Problem(Exception):
    def __init__(self, status, code, detail, **more):
        super().__init__(detail)
        self.content = dict({"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}, **more)


class FakeSession:
    def __init__(self, server, engine, name, parent=None):
        self.server, self.engine, self.parent = server, engine, parent
        self.id = "s_%d" % next(server.ids)
        self.name = name or self.id
        self.space = copy.deepcopy(parent.space) if parent else {"numpy": None}
        self.printed, self.events, self.checkpoints, self.files = "", [], {}, {}
        self.progress = None
        self.lock, self.news, self.thread, self.state = threading.Lock(), threading.Condition(), None, "idle"
        self.sockets = []

    def describe(self):
        out = {"id": self.id, "name": self.name, "engine": self.engine, "user": "operator", "state": self.state, "queued": 0,
               "memory_bytes": 12 << 20, "created_at": NOW, "last_used_at": NOW, "parent": self.parent.id if self.parent else None}
        if self.progress:
            out["progress"] = self.progress
        return out

    def emit(self, topic, **members):
        with self.news:
            self.events.append(dict({"seq": len(self.events) + 1, "topic": topic}, **members))
            self.news.notify_all()

    def run(self, job):
        """Runs a job's script or function in the session's variables; fills the job."""
        with self.lock:
            self.thread, self.state, job["state"] = threading.get_ident(), "busy", "running"
            self.emit("state", state="busy", call=1)
            out, session = io.StringIO(), self

            class Tee(io.TextIOBase):
                def write(self, text):
                    out.write(text)
                    session.printed += text
                    session.emit("stdout", text=text)
                    return len(text)

            try:
                self.space.update(numpy=numpy, print=lambda *a, sep=" ", end="\n", **_: Tee().write(sep.join(map(str, a)) + end),
                                  progress=self.set_progress)
                if "function" in job:
                    function = self.space.get(job["function"])
                    if function is None:
                        raise AttributeError("no function '%s'" % job["function"])
                    data = function(*job.get("args", []), **job.get("kwargs", {}))
                else:
                    if job.get("fresh"):
                        self.space = {k: self.space[k] for k in ("numpy", "print", "progress")}
                    exec(compile(job["source"], "<script>", "exec"), self.space)
                    wanted = job.get("return")
                    data = {} if wanted is None else self.space.get(wanted) if isinstance(wanted, str) else {n: self.space.get(n) for n in wanted}
                job["answer"] = {"data": data, "stdout": out.getvalue()}
                job["state"] = "done"
            except BaseException as error:
                frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "<script>"]
                line = frames[-1].lineno if frames else getattr(error, "lineno", None)
                job["state"] = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
                job["problem"] = Problem(422, "call_failed", "%s: %s" % (type(error).__name__, error), **{
                    "class": type(error).__name__, "text": str(error), "line": line, "stdout": out.getvalue(),
                    "traceback": ["line %d, in %s" % (f.lineno, f.name) for f in frames]})
            finally:
                self.thread, self.state, self.progress = None, "idle", None
                self.emit("state", state="idle", ok=job["state"] == "done")

    def set_progress(self, done, time_ms, of_ms):
        self.progress = {"done": done, "time_ms": time_ms, "of_ms": of_ms, "interruptible": True}
        self.emit("progress", done=done, time_ms=time_ms, of_ms=of_ms)

    def interrupt(self):
        if self.thread is None:
            raise Problem(409, "conflict", "nothing runs in this session")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(KeyboardInterrupt))

    def branch(self, name=None):
        made = FakeSession(self.server, self.engine, name, None)
        made.space = snapshot(self.space)
        made.parent = self
        self.server.sessions[made.id] = made
        return made


def snapshot(space):
    return {k: copy.deepcopy(v) for k, v in space.items() if k not in ("__builtins__", "numpy", "print", "progress")}


class ContractServer:
    def __init__(self, token="secret", unix=None):
        self.token, self.ids, self.sessions, self.jobs, self.files, self.tokens = token, itertools.count(1), {}, {}, {}, {}
        self.requests, self.lock = [], threading.Lock()
        contract = self

        class Handler(_Handler):
            server_of = contract
            disable_nagle_algorithm = not unix

        if unix:
            class Server(socketserver.ThreadingUnixStreamServer):
                daemon_threads = True
            self._server = Server(str(unix), Handler)
            self.url = "unix:%s" % unix
        else:
            class Server(socketserver.ThreadingTCPServer):
                daemon_threads, allow_reuse_address = True, True
            self._server = Server(("127.0.0.1", 0), Handler)
            self.url = "http://127.0.0.1:%d" % self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def job(self, session, content, kind, kept):
        job = dict(content, id="r_%d" % next(self.ids), kind=kind, state="queued", session=session.id, engine=session.engine, kept=kept)
        self.jobs[job["id"]] = job
        return job

    def describe(self, job, full=True):
        out = {k: job[k] for k in ("id", "kind", "state", "session", "engine")}
        out.update(title=job.get("title"), user="operator", history=0, parent_session=None, inputs=job.get("inputs", []), versions={"python": "3"},
                   machine={}, seeds={}, created_at=NOW, started_at=NOW, ended_at=NOW, expires_at=None, bytes=sum(
                       d.nbytes for d in self.datasets(job).values()))
        if full:
            out.update({k: job[k] for k in ("source", "function") if k in job}, stdout=job.get("answer", {}).get("stdout", ""))
        out["datasets"] = [{"name": n, "dtype": str(d.dtype), "shape": list(d.shape), "dims": [], "unit": None, "bytes": d.nbytes,
                            "sha256": hashlib.sha256(d.tobytes()).hexdigest()} for n, d in self.datasets(job).items()]
        if "problem" in job:
            out["error"] = job["problem"].content
        if "comparison" in job:
            out["comparison"] = job["comparison"]
        session = self.sessions.get(job["session"])
        if job["state"] == "running" and session and session.progress:
            out["progress"] = session.progress
        return out

    @staticmethod
    def datasets(job):
        data = job.get("answer", {}).get("data")
        wanted = job.get("return")
        data = {wanted: data} if isinstance(wanted, str) else data if isinstance(data, dict) else {}
        return {n: numpy.asarray(v) for n, v in data.items() if v is not None}

    def compare(self, a, b):
        one, other = self.datasets(a), self.datasets(b)
        rows = []
        for name in sorted({*one, *other}):
            x, y = one.get(name), other.get(name)
            same = x is not None and y is not None and x.dtype == y.dtype and x.tobytes() == y.tobytes()
            first = None
            if not same and x is not None and y is not None and x.shape == y.shape:
                first = int(numpy.flatnonzero(x.ravel() != y.ravel())[0])
            rows.append({"name": name, "identical": same, "a": {}, "b": {}, "first_difference": first,
                         "max_abs_difference": None if first is None else float(numpy.max(numpy.abs(x - y)))})
        same = all(r["identical"] for r in rows)
        return {"identical": same, "datasets": rows, "differs": [] if same else ["source"]}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of = None

    def log_message(self, *_):
        pass

    def address_string(self):
        return "test"

    def handle_any(self):
        self.contract = self.server_of
        parts = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.contract.requests.append((self.command, self.path, dict(self.headers)))
        path = [urllib.parse.unquote(p) for p in parts.path.split("/")[1:]]
        try:
            if path[:2] != ["v1", "health"] and self.contract.token and self.headers.get("Authorization") != "Bearer " + self.contract.token:
                raise Problem(401, "unauthorized", "send a valid token: Authorization: Bearer <token>")
            if path[0] != "v1":
                raise Problem(404, "not_found", "no such route: %s" % self.path)
            self.route(path[1], path[2:])
        except Problem as problem:
            retry = {"Retry-After": "1"} if problem.content["status"] in (429, 503) else {}
            self.reply(problem.content["status"], problem.content, "application/problem+json", retry)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def reply(self, status, value=None, kind="application/json", headers=None):
        data = b"" if value is None else value if isinstance(value, bytes) else to_json(value)
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if status != 204:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def negotiated(self, value, headers=None):
        if self.headers.get("Accept", "").startswith("application/cbor"):
            return self.reply(200, to_cbor(value), "application/cbor", headers)
        self.reply(200, value, headers=headers)

    def content(self):
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise Problem(400, "bad_request", "the body is not JSON") from None

    # -- routes

    def route(self, top, rest):
        contract, method = self.contract, self.command
        if top == "health":
            self.reply(200, {"status": "ok", "version": "0", "isolation": "full", "engines": {"nest": {"ready": True}, "python": {"ready": True}}})
        elif top == "status":
            self.reply(200, {"user": "operator", "operator": True})
        elif top == "metrics":
            self.reply(200, b"myelin_sessions 1\n", "text/plain")
        elif top == "engines":
            self.reply(200, {"engines": [{"name": "nest", "version": "3.10", "ready": True, "branches": True, "why_not": None, "python": "/usr/bin/python3"},
                                         {"name": "broken", "version": None, "ready": False, "branches": False, "why_not": "no such module", "python": ""}]})
        elif top == "tokens":
            self.route_tokens(rest)
        elif top == "files":
            self.route_files(contract.files, "/".join(rest))
        elif top == "sessions" and not rest:
            if method == "GET":
                self.reply(200, {"sessions": [s.describe() for s in contract.sessions.values() if s.state != "ended"]})
            else:
                content = self.content()
                if content["engine"] not in ("nest", "python"):
                    raise Problem(404, "not_found", "no engine named '%s'; there are: nest, python" % content["engine"])
                if any(s.name == content.get("name") and s.engine == content["engine"] for s in contract.sessions.values()):
                    raise Problem(409, "conflict", "you already have a session of that name")
                session = FakeSession(contract, content["engine"], content.get("name"))
                contract.sessions[session.id] = session
                self.reply(201, session.describe(), headers={"Location": "/v1/sessions/" + session.id})
        elif top == "sessions":
            session = contract.sessions.get(rest[0])
            if session is None:
                raise Problem(404, "not_found", "no session %s" % rest[0])
            if session.state == "ended" and len(rest) > 1:
                raise Problem(410, "gone", "the session was deleted")
            self.route_session(session, rest[1] if len(rest) > 1 else "", rest[2:])
        elif top in ("jobs", "runs"):
            self.route_runs(top, rest)
        else:
            raise Problem(404, "not_found", "no such route: %s" % self.path)

    def route_tokens(self, rest):
        tokens = self.contract.tokens
        if rest:
            if tokens.pop(rest[0], None) is None:
                raise Problem(404, "not_found", "no token of that name")
            self.reply(204)
        elif self.command == "POST":
            tokens[self.content()["name"]] = "t" * 48
            self.reply(201, {"name": self.content()["name"], "token": "t" * 48})
        else:
            self.reply(200, {"tokens": [{"name": n} for n in tokens]})

    def route_files(self, files, path):
        if self.command == "PUT":
            files[path] = None if "directory" in self.query else self.body
            self.reply(201)
        elif self.command == "DELETE":
            if files.pop(path, 0) == 0:
                raise Problem(404, "not_found", "no file %s" % path)
            self.reply(204)
        elif path in files and files[path] is not None:
            self.reply(200, files[path], "application/octet-stream")
        elif path in ("", *files):
            inside = [p for p in files if p != path and p.rpartition("/")[0] == path]
            self.reply(200, {"path": path, "entries": [{"name": p.rpartition("/")[2], "type": "directory" if files[p] is None else "file",
                                                        "bytes": len(files[p] or b""), "modified_at": NOW} for p in inside]})
        else:
            raise Problem(404, "not_found", "no file %s" % path)

    def route_session(self, session, verb, rest):
        method, contract = self.command, self.contract
        if not verb and method == "GET":
            self.reply(200, session.describe())
        elif not verb:
            session.state = "ended"
            session.emit("state", state="ended", cause={"code": "deleted", "text": "deleted"})
            self.reply(204)
        elif verb in ("exec", "call"):
            content = self.content()
            kept = bool(content.pop("keep", False))
            job = contract.job(session, content, verb, kept)
            if self.headers.get("Prefer") == "respond-async":
                threading.Thread(target=session.run, args=(job,), daemon=True).start()
                return self.reply(202, contract.describe(job), headers={"Location": "/v1/jobs/" + job["id"], "Preference-Applied": "respond-async"})
            session.run(job)
            if not kept:
                del contract.jobs[job["id"]]
            self.answer(job, {"Myelin-Run": job["id"]} if kept else None)
        elif verb == "interrupt":
            session.interrupt()
            self.reply(202, {"interrupting": True})
        elif verb == "output":
            self.reply(200, session.printed.encode(), "text/plain; charset=utf-8")
        elif verb == "branch":
            content = self.content()
            if session.space.get("blocked"):
                raise Problem(409, "conflict", "this session can't branch: thread 'worker' can't be paused")
            names = content.get("names") or [None] * content.get("count", 1)
            self.reply(201, {"sessions": [session.branch(n).describe() for n in names], "evicted": []})
        elif verb == "checkpoints" and method == "POST":
            made = {"id": "c_%d" % next(contract.ids), "name": self.content().get("name"), "session": session.id, "created_at": NOW, "memory_bytes": 1}
            evicted = [session.checkpoints.pop(next(iter(session.checkpoints)))[0]] if len(session.checkpoints) >= 2 else []
            session.checkpoints[made["id"]] = (made, snapshot(session.space))
            self.reply(201, dict(made, evicted=evicted))
        elif verb == "checkpoints" and method == "GET":
            self.reply(200, {"checkpoints": [c for c, _ in session.checkpoints.values()]})
        elif verb == "checkpoints":
            session.checkpoints.pop(rest[0])
            self.reply(204)
        elif verb == "rewind":
            found = session.checkpoints.get(self.content().get("checkpoint"))
            if found is None:
                raise Problem(404, "not_found", "no such checkpoint")
            session.space = snapshot(found[1])
            session.emit("state", state="rewound")
            self.reply(200, session.describe())
        elif verb == "recorders":
            self.reply(200, {"recorders": [{"id": 3, "kind": "spikes", "model": "spike_recorder", "label": "", "n_events": 2, "columns": [], "record_to": "memory"}]})
        elif verb == "files":
            self.route_files(session.files, "/".join(rest))
        elif verb in ("stream", "loop"):
            self.upgrade()
            (self.stream if verb == "stream" else self.loop)(session)
        else:
            raise Problem(404, "not_found", "no such route: %s" % self.path)

    def answer(self, job, headers=None):
        if "problem" in job:
            raise job["problem"]
        self.negotiated(job["answer"], headers)

    def route_runs(self, top, rest):
        contract, method = self.contract, self.command
        if rest == ["compare"]:
            return self.reply(200, contract.compare(contract.jobs[self.query["a"]], contract.jobs[self.query["b"]]))
        if not rest:
            found = [j for j in reversed(contract.jobs.values()) if top == "jobs" or j["kept"]]
            for key in ("engine", "state", "session"):
                found = [j for j in found if key not in self.query or j[key] == self.query[key]]
            if "title" in self.query:
                found = [j for j in found if self.query["title"] in (j.get("title") or "")]
            ids = [j["id"] for j in found]
            found = found[ids.index(self.query["after"]) + 1 if "after" in self.query else 0:]
            limit = int(self.query.get("limit", 50))
            more = found[limit - 1]["id"] if len(found) > limit else None
            return self.reply(200, {top: [contract.describe(j, False) for j in found[:limit]], "next": more})
        job, verb = contract.jobs.get(rest[0]), rest[1] if len(rest) > 1 else ""
        if job is None:
            raise Problem(404, "not_found", "no %s %s" % (top[:-1], rest[0]))
        if not verb and method == "GET":
            self.reply(200, contract.describe(job))
        elif not verb and method == "PATCH":
            job.update(self.content())
            self.reply(200, contract.describe(job))
        elif not verb:
            del contract.jobs[rest[0]]
            self.reply(204)
        elif verb == "result":
            if job["state"] in ("queued", "running"):
                raise Problem(409, "conflict", "it still runs")
            self.answer(job)
        elif verb == "cancel":
            contract.sessions[job["session"]].interrupt()
            self.reply(202, {"cancelling": True})
        elif verb == "datasets":
            data = contract.datasets(job).get(rest[2])
            if data is None:
                raise Problem(404, "not_found", "no dataset %s" % rest[2])
            kind = self.query.get("format", "json")
            npy = io.BytesIO()
            numpy.save(npy, data)
            self.reply(200, {"cbor": lambda: to_cbor(data), "json": lambda: to_json(data), "npy": npy.getvalue,
                             "csv": lambda: "\n".join(["value", *map(str, data.ravel())]).encode()}[kind](),
                       "application/cbor" if kind == "cbor" else "application/octet-stream")
        elif verb == "export":
            out = io.BytesIO()
            if self.query.get("format") == "npz":
                numpy.savez(out, **contract.datasets(job))
            else:
                with zipfile.ZipFile(out, "w") as archive:
                    archive.writestr("ro-crate-metadata.json", "{}")
            self.reply(200, out.getvalue(), "application/zip")
        elif verb == "rerun":
            session = contract.sessions[job["session"]]
            again = contract.job(session, {k: job[k] for k in ("source", "return", "title") if k in job}, "rerun", True)
            again["inputs"] = [job["id"]]

            def work():
                session.run(again)
                again["comparison"] = contract.compare(job, again)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(0 if self.query.get("slow") else 30)  # so that `comparison` is there as soon as it is done
            self.reply(202, contract.describe(again))
        else:
            raise Problem(404, "not_found", "no such route: %s" % self.path)

    # -- WebSockets

    def upgrade(self):
        if self.headers.get("Upgrade", "").lower() != "websocket":
            raise Problem(400, "bad_request", "this is a WebSocket")
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True

    def frame(self, opcode, data, final=True):
        size = len(data)
        head = bytes([opcode | (0x80 if final else 0)])
        head += bytes([size]) if size < 126 else struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)
        self.wfile.write(head + data)

    def message(self, value):
        data = to_cbor(value) if self.query.get("format") == "cbor" else to_json(value)
        opcode = 2 if self.query.get("format") == "cbor" else 1
        half = len(data) // 2  # always in two frames, with a ping in between: a client must put up with that
        self.frame(opcode, data[:half], False)
        self.frame(9, b"?")
        self.frame(0, data[half:])

    def next_frame(self):
        head = self.rfile.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 127
        assert head[1] & 128, "a client's frames are masked"
        if size == 126:
            size = struct.unpack(">H", self.rfile.read(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.rfile.read(8))[0]
        mask = self.rfile.read(4)
        return head[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(size)))

    def stream(self, session):
        session.sockets.append(self.connection)
        wanted = self.query["topics"].split(",") if "topics" in self.query else None
        at = int(self.query["after"]) if "after" in self.query else len(session.events)
        try:
            self.message({"seq": len(session.events), "topic": "state", "state": session.state})
            while True:
                with session.news:
                    session.news.wait_for(lambda: len(session.events) > at, 0.2)
                    fresh, at = session.events[at:], len(session.events)
                for event in fresh:
                    if wanted is None or event["topic"] in wanted:
                        self.message(event)
                    if event.get("state") == "ended":
                        self.frame(8, struct.pack(">H", 1000))
                        while self.next_frame() is not None:  # what is left unread would reset the connection
                            pass
                        return
        except (OSError, ValueError):
            pass

    def loop(self, session):
        time_ms = 0.0
        while (frame := self.next_frame()) is not None:
            opcode, data = frame
            if opcode == 8:
                self.frame(8, data)
                return
            if opcode != 1:
                continue
            request = json.loads(data)
            if "call" in request:
                job = {"function": request["call"], "args": request.get("args", []), "state": "queued"}
                session.run(job)
                if "problem" in job:
                    self.message({"error": {k: job["problem"].content[k] for k in ("code", "detail", "class", "line")}})
                else:
                    self.message({"data": job["answer"]["data"]})
            else:
                time_ms += request.get("advance", 0)
                for one in request.get("set", []):
                    session.space.update(one["params"])
                got = [{k: numpy.full(len(one["nodes"]), session.space.get(k, 0.0)) for k in one["keys"]} for one in request.get("get", [])]
                self.message({"time_ms": time_ms, "get": got})


if __name__ == "__main__":
    contract = ContractServer(unix=pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(contract.url, flush=True)
    threading.Event().wait()
