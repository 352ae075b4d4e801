"""Functions of the operator's folder: dropping a file makes routes; what is wrong with one stays its own matter."""

import concurrent.futures
import hashlib
import http.client
import io
import json
import os
import time
import zipfile

import pytest

from conftest import add_user, wait_until
from functions.conftest import Folder, call, value

TYPED = """
    from typing import Annotated, Literal, Optional
    from myelin.function import Dims, Help, Limits, Line, Range, Result, Unit, function

    @function(title="A cell's answer", deterministic=True, plots=[Line("t", "v")],
              results={"v": Result("mV", ("t",), "membrane potential"), "t": "ms"}, limits=Limits(seconds=20))
    def respond(amp: Annotated[float, Unit("nA"), Range(-1, 1), Help("injected current")] = 0.1, steps: Annotated[int, Range(1, 1000)] = 3,
                mode: Literal["ic", "vc"] = "ic", label: Optional[str] = None, weights: list[float] = [1.0]):
        \"\"\"Multiplies.\"\"\"
        return {"v": [amp * 2] * steps, "t": list(range(steps)), "mode": mode, "label": label, "weights": weights}
"""


def test_a_dropped_file_is_a_route_without_a_restart(folder, client):
    assert call(client, "dropped.double", x=2).status == 404
    folder.put("dropped.py", "def double(x):\n    return 2 * x\n\ndef _hidden():\n    pass\n")
    assert value(client, "dropped.double", x=21) == 42
    assert value(client, "double", x=4) == 8  # the name alone is enough where it is unique
    names = [f["id"] for f in client.get("/v1/functions").json()["functions"]]
    assert "dropped.double" in names and not any("hidden" in name for name in names)
    folder.remove("dropped.py")
    assert call(client, "dropped.double", x=2).status == 404


def test_without_annotations_pythons_own_errors_come_back(folder, client):
    folder.put("plain.py", "def return_params(params):\n    return params\n\ndef pair(a, b):\n    return [a, b]\n\ndef fail():\n    x = 1\n    raise ValueError('no such cell')\n")
    document = {"a": [1, 2.5, None, True, "ü"], "b": {"c": 10**30}}
    assert value(client, "return_params", params=document) == document
    for given, text in (({}, "return_params() missing 1 required positional argument: 'params'"),
                        ({"params": 1, "zz": 2}, "return_params() got an unexpected keyword argument 'zz'")):
        answer = call(client, "plain.return_params", **given)
        assert (answer.status, answer.json()["code"], answer.json()["detail"]) == (400, "call_failed", text)
    assert call(client, "plain.pair").json()["detail"] == "pair() missing 2 required positional arguments: 'a' and 'b'"
    problem = call(client, "plain.fail").json()
    assert (problem["class"], problem["text"], problem["line"]) == ("ValueError", "no such cell", 9)
    assert "NaN" in client.request("POST", "/v1/functions/return_params", '{"parameters": {"params": NaN}}',
                                   {"Content-Type": "application/json", "Accept": "application/json;nonfinite=bare"}).text


def test_all_says_what_is_public(folder, client):
    folder.put("chosen.py", "__all__ = ['b']\nfrom os.path import join\ndef a(): return 1\ndef b(): return 2\n")
    folder.put("unchosen.py", "from os.path import join\ndef a(): return 1\n")
    ids = [f["id"] for f in client.get("/v1/functions").json()["functions"]]
    assert "chosen.b" in ids and "chosen.a" not in ids and "unchosen.a" in ids and "unchosen.join" not in ids


def test_a_declaration_is_the_form_and_the_schema(folder, client):
    folder.put("typed.py", TYPED)
    shown = client.get("/v1/functions/typed.respond").json()
    assert shown["title"] == "A cell's answer" and shown["description"] == "Multiplies." and shown["engine"] == "python"
    amp, steps, mode, label, weights = shown["parameters"]
    assert amp == {"name": "amp", "required": False, "kind": "number", "minimum": -1, "maximum": 1, "default": 0.1, "unit": "nA", "help": "injected current"}
    assert (steps["kind"], mode["kind"], mode["choices"], label["nullable"], weights["items"]) == ("integer", "choice", ["ic", "vc"], True, {"kind": "number"})
    assert shown["results"] == {"v": {"unit": "mV", "dims": ["t"], "help": "membrane potential"}, "t": {"unit": "ms", "dims": [], "help": ""}}
    assert shown["plots"] == [{"kind": "line", "x": "t", "y": ["v"], "title": ""}]
    schema = shown["schema"]
    assert schema["properties"]["amp"] == {"type": "number", "minimum": -1, "maximum": 1, "description": "injected current, in nA", "x-unit": "nA", "default": 0.1}
    assert schema["additionalProperties"] is False
    described = client.get("/v1/openapi.json").json()
    assert "/v1/functions/{name}" in described["paths"]
    entry = described["paths"]["/v1/functions/typed.respond"]["post"]
    assert entry["requestBody"]["content"]["application/json"]["schema"]["properties"]["parameters"] == schema
    assert "/v1/functions/typed.respond" not in client.with_token(None).get("/v1/openapi.json").json()["paths"]


@pytest.mark.parametrize("given, field, words", [
    ({"zz": 1}, "zz", "is not known"),
    ({"amp": 5}, "amp", "between -1 and 1"),
    ({"amp": "x"}, "amp", "must be a number"),
    ({"amp": None}, "amp", "may not be null"),
    ({"amp": True}, "amp", "must be a number"),
    ({"steps": 2.5}, "steps", "whole number"),
    ({"steps": 10**30}, "steps", "too large"),
    ({"steps": 0}, "steps", "between 1 and 1000"),
    ({"mode": "xx"}, "mode", 'one of "ic", "vc"'),
    ({"label": 3}, "label", "must be a text"),
    ({"weights": [1, "a"]}, "weights[1]", "must be a number"),
    ({"weights": 3}, "weights", "must be a list"),
])
def test_wrong_values_are_named(folder, client, given, field, words):
    folder.put("typed.py", TYPED)
    answer = call(client, "typed.respond", **given)
    assert answer.status == 422 and answer.json()["code"] == "invalid", answer
    (error,) = answer.json()["errors"]
    assert error["field"] == field and words in error["message"]


def test_several_wrong_values_and_missing_ones(folder, client):
    folder.put("needs.py", "def f(a: float, b: int, c: str = 'x'): return [a, b, c]\n")
    errors = call(client, "needs.f", b="x", d=1).json()["errors"]
    assert [(e["field"], e["message"].split(",")[0]) for e in errors] == [("a", "is missing"), ("b", "must be a whole number"), ("d", "is not known; there are: a")]
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        answer = client.request("POST", "/v1/functions/needs.f", '{"parameters": {"a": %s, "b": 1}}' % text, {"Content-Type": "application/json"})
        assert answer.status == 422 and answer.json()["errors"][0]["field"] == "a", (text, answer)
    assert value(client, "needs.f", a=1, b=2.0) == [1.0, 2, "x"]


@pytest.mark.parametrize("body", ["[1]", '"x"', '{"parameters": 3}', '{"x": 1}', '{"parameters": {}, "keep": 1}', '{"parameters": {}, "timeout_s": -1}', "{", ""])
def test_bodies_that_mean_nothing(folder, client, body):
    folder.put("needs.py", "def f(a: float, b: int, c: str = 'x'): return [a, b, c]\n")
    answer = client.request("POST", "/v1/functions/needs.f", body, {"Content-Type": "application/json"})
    assert answer.status == (422 if body == "" else 400), answer


def test_a_syntax_error_is_told_with_its_line(folder, client):
    folder.put("fine.py", "def good(): return 1\n")
    assert value(client, "fine.good") == 1
    folder.put("fine.py", "def good():\n    return 1\n\ndef bad(:\n")
    answer = call(client, "fine.good")
    assert answer.status == 409
    problem = answer.json()
    assert (problem["code"], problem["file"], problem["line"], problem["package"]) == ("broken", "fine.py", 4, "fine") and "SyntaxError" in problem["text"]
    (error,) = [e for e in client.get("/v1/functions").json()["errors"] if e["package"] == "fine"]
    assert error["line"] == 4 and error["file"] == "fine.py"
    assert call(client, "good").status == 409  # by the name that it had, too
    folder.put("fine.py", "def good(): return 2\n")
    assert value(client, "fine.good") == 2


@pytest.mark.parametrize("text, line, words", [
    ("import nothing_like_this\n", 1, "ModuleNotFoundError"),
    ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError"),
    ("raise SystemExit(3)\n", 1, "exit"),
    ("def f(x: 'NoSuchType'): pass\n", 1, "annotation"),
    ("__all__ = ['missing']\n", None, "missing"),
    ("from myelin.function import *\n@function(engine='none')\ndef f(): pass\n", None, "engine 'none'"),
    ("from typing import Annotated\nfrom myelin.function import Range\ndef f(x: Annotated[float, Range(2, 1)]): pass\n", 3, "range is empty"),
    ("def f(x: object): pass\n", 1, "no type that a parameter can have"),
    ("import os\nos._exit(7)\n", None, "exited with code 7"),
    ("import ctypes\nctypes.string_at(0)\n", None, "SIGSEGV"),
])
def test_other_ways_to_be_broken(folder, client, text, line, words):
    folder.put("wrong.py", text)
    problem = call(client, "wrong.f").json()
    assert problem["code"] == "broken" and problem.get("line") == line and words in problem["text"], problem
    assert client.get("/v1/health").status == 200
    folder.remove("wrong.py")


def test_a_module_of_python_is_not_hidden(folder, client):
    folder.put("json.py", "def f(): return 1\n")
    assert "module of Python itself" in call(client, "json.f").json()["text"]
    folder.remove("json.py")


def test_callers_do_not_meet(folder, client, user):
    folder.put("apart.py", """
        import os, time
        seen = []
        def slow(x):
            seen.append(x)
            open("mark", "w").write(str(x))
            time.sleep(0.3)
            return [seen, open("mark").read(), os.listdir(".")]
    """)
    clients = [user() for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: value(clients[i % 4], "apart.slow", x=i), range(12)))
    for i, (seen, text, files) in enumerate(answers):
        assert (seen, text, files) == ([i], str(i), ["mark"])


def test_it_sees_nobodys_files(folder, client, functions_server):
    client.request("PUT", "/v1/files/secret.txt", "mine")
    folder.put("curious.py", """
        import os
        def look(path):
            return open(os.path.expanduser(path)).read()
        def places():
            return {"home": os.listdir(os.path.expanduser("~")), "session": sorted(os.listdir("/session")), "package": os.listdir("/session/package")}
        def write():
            open("/session/package/curious.py", "a").write("# changed")
        def others():
            return [name for name in os.listdir("/proc") if name.isdigit()]
    """)
    assert value(client, "curious.places") == {"home": [], "session": ["home", "package", "shm", "tmp"], "package": ["curious.py"]}
    for path in (os.path.join("~/work", "secret.txt"), str(functions_server.data / "test.toml"), str(functions_server.data / "functions" / "curious.py"),
                 str(functions_server.data / "packages"), "/etc/shadow"):
        assert call(client, "curious.look", path=path).status == 400, path
    assert call(client, "curious.write").status == 400
    assert len(value(client, "curious.others")) == 1


def test_what_never_returns_is_ended(folder, client):
    folder.put("endless.py", """
        from myelin.function import function, Limits
        @function(limits=Limits(seconds=1))
        def spin():
            while True: pass
        @function(limits=Limits(seconds=1))
        def deaf():
            import signal
            while True:
                try:
                    while True: pass
                except BaseException: pass
        def wait(): 
            import time
            time.sleep(1000)
    """)
    for name in ("spin", "deaf"):
        answer = call(client, "endless." + name)
        assert (answer.status, answer.json()["code"]) == (504, "deadline"), answer
    assert client.post("/v1/functions/wait", {"timeout_s": 0.5}).status == 504


def test_floods_and_large_results(folder, client):
    folder.put("large.py", """
        import numpy
        def chatter():
            while True: print("x" * 100)
        def many(n): return {"v": numpy.arange(n, dtype=float)}
        def module(): return numpy
        def memory():
            return len(bytearray(64 << 30))
        def crash():
            import os, signal
            os.kill(os.getpid(), signal.SIGSEGV)
    """)
    assert client.post("/v1/functions/large.chatter", {"timeout_s": 1}).status == 504
    answer = client.post("/v1/functions/large.many", {"parameters": {"n": 10**7}}, headers={"Accept": "application/cbor"})
    assert answer.status == 200 and len(answer.body) > 8 * 10**7
    assert "module 'numpy'" in call(client, "large.module").json()["detail"]
    for name in ("memory", "crash"):
        answer = call(client, "large." + name)
        assert (answer.status, answer.json()["code"]) == (400, "call_failed"), answer
    assert value(client, "large.many", n=3) == {"v": [0, 1, 2]}


def test_a_file_replaced_while_it_is_called(folder, client):
    folder.put("changing.py", "def version():\n    import time\n    time.sleep(0.5)\n    return 1\n")
    assert value(client, "changing.version") == 1
    first = client.post("/v1/functions/changing.version", {}, headers={"Prefer": "respond-async"})
    assert first.status == 202, first  # from here on its code is settled
    folder.put("changing.py", "def version(): return 2\n")
    assert value(client, "changing.version") == 2
    path = first.headers["location"]
    wait_until(lambda: client.get(path).json()["state"] == "done", "the first call")
    assert client.get(path + "/result").json()["data"] == 1


def test_calls_of_a_deactivated_user_do_not_begin(make_server):
    server = make_server(functions={"calls": 1})
    Folder(server.data / "functions").put("long.py", "import time\ndef wait(n: int):\n    time.sleep(60)\n    return n\n")
    user = add_user(server, "dora")
    dora = server.client(server.client().post("/v1/tokens", {"name": "t", "user": "dora"}).json()["token"])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(call, dora, "long.wait", n=n) for n in range(4)]  # one runs, the others wait
        time.sleep(2)
        began = time.monotonic()
        assert server.client().request("PATCH", "/v1/users/" + user["id"], json_body={"active": False}).status == 200
        for one in asked:
            try:
                assert one.result().status != 200
            except (http.client.HTTPException, ConnectionError):
                pass  # it was cut
        assert time.monotonic() - began < 50


def test_deterministic_results_are_remembered(folder, client, user):
    folder.put("memory.py", """
        from myelin.function import function
        @function(deterministic=True)
        def draw(x: float = 0.5, n: int = 2):
            import os
            return [x, n, os.urandom(8).hex()]
        @function(deterministic=True)
        def untyped(x):
            import os
            return [x, os.urandom(8).hex()]
        def fresh():
            import os
            return os.urandom(8).hex()
    """)

    def ask(who, name="memory.draw", **parameters):
        answer = call(who, name, **parameters)
        assert answer.status == 200, answer
        return answer.json()["data"], answer.headers.get("myelin-cache")

    first, mark = ask(client)
    assert mark == "miss"
    for same in ({"x": 0.5}, {"n": 2}, {"n": 2.0, "x": 0.5}, {"x": 5e-1}):
        assert ask(client, **same) == (first, "hit"), same
    assert ask(user(), x=0.5) == (first, "hit")
    assert ask(client, x=0.25)[1] == "miss"
    assert ask(client, "memory.fresh")[1] is None
    # Numbers that differ beyond what a double holds are different.
    a, b = 10**30, 10**30 + 1
    assert ask(client, "memory.untyped", x=a)[1] == "miss" and ask(client, "memory.untyped", x=b)[1] == "miss"
    assert ask(client, "memory.untyped", x=a)[0][0] == a
    folder.put("memory.py", (folder.path / "memory.py").read_text() + "\n# another version\n")
    assert ask(client)[1] == "miss"


def test_who_may_call(folder, client, user, functions_server):
    folder.put("shared.py", "from myelin.function import function\n@function(public=True)\ndef open_one(): return 1\ndef other(): return 2\n")
    anna = user()
    assert value(anna, "shared.other") == 2 and value(anna, "shared.open_one") == 1
    nobody = functions_server.client(None)
    assert nobody.post("/v1/functions/shared.other", {}).status == 401
    shown = {f["name"]: f["visibility"] for f in client.get("/v1/functions").json()["functions"] if f["package"] == "shared"}
    assert shown == {"open_one": "public", "other": "all"}


def test_kept_calls_are_runs_and_can_be_repeated(folder, client):
    folder.put("kept.py", "import random\ndef noise(n: int = 100):\n    return {'v': [random.random() for _ in range(n)]}\n")
    answer = client.post("/v1/functions/kept.noise", {"parameters": {"n": 200}, "keep": True, "title": "noise"})
    assert answer.status == 200
    run = client.get("/v1/runs/" + answer.headers["myelin-run"]).json()
    assert (run["kind"], run["function"], run["arguments"], run["title"], run["state"]) == ("function", "kept.noise", {"n": 200}, "noise", "done")
    assert run["seeds"]["python"] >= 0 and run["versions"]["python"] and run["datasets"][0]["name"] == "v"
    job = client.post("/v1/runs/%s/rerun" % run["id"], {}).json()
    done = wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job["id"]).json()), "the rerun")
    assert done["state"] == "done" and done["comparison"]["identical"], done
    # The code as it was is used again, whatever became of it.
    folder.put("kept.py", "def noise(n: int = 100):\n    return {'v': [0.0] * n}\n")
    assert value(client, "kept.noise", n=1) == {"v": [0.0]}
    job = client.post("/v1/runs/%s/rerun" % run["id"], {}).json()
    done = wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job["id"]).json()), "the rerun")
    assert done["state"] == "done" and done["comparison"]["identical"], done


def test_declared_units_and_dims_are_those_of_the_datasets(folder, client):
    folder.put("traced.py", """
        from myelin.function import Result, function
        @function(results={"t": "ms", "v": Result("mV", dims=("t",))})
        def trace(amp: float = 1.0): return {"t": [0.0, 0.5], "v": [amp, -amp], "w": [1.5]}
    """)
    run = client.post("/v1/functions/traced.trace", {"keep": True}).headers["myelin-run"]
    sets = {d["name"]: (d["dims"], d["unit"], d.get("coordinates")) for d in client.get("/v1/runs/" + run).json()["datasets"]}
    assert sets == {"t": (["t"], "ms", None), "v": (["t"], "mV", ["t"]), "w": (["dim_0"], None, None)}
    job = client.post("/v1/sweeps", {"function": "traced.trace", "grid": {"amp": [1, 2, 3]}}).json()["id"]
    done = wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job).json()), "the sweep")
    sets = {d["name"]: (d["shape"], d["dims"], d["unit"], d.get("coordinates")) for d in done["datasets"]}
    assert sets["axes.amp"] == ([3], ["amp"], None, None) and sets["results.v"] == ([3, 2], ["amp", "t"], "mV", ["axes.amp"]), sets


def test_jobs_fail_and_are_cancelled(folder, client):
    folder.put("jobs.py", "import time\ndef sleep(s):\n    time.sleep(s)\n    return s\ndef fail(): raise KeyError('k')\n")

    def start(name, **parameters):
        answer = client.post("/v1/functions/" + name, {"parameters": parameters}, headers={"Prefer": "respond-async"})
        assert answer.status == 202 and answer.headers["location"] == "/v1/jobs/" + answer.json()["id"], answer
        return answer.json()["id"]

    def end(job):
        return wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job).json()), "the job")

    assert end(start("jobs.sleep", s=0.1))["state"] == "done"
    failed = end(start("jobs.fail"))
    assert failed["state"] == "failed" and failed["error"]["class"] == "KeyError"
    job = start("jobs.sleep", s=1000)
    wait_until(lambda: client.get("/v1/jobs/" + job).json()["state"] == "running", "the start")
    assert client.post("/v1/jobs/%s/cancel" % job, {}).status == 202
    assert end(job)["state"] == "cancelled"


def test_forms_of_results(folder, client):
    numpy = pytest.importorskip("numpy")
    folder.put("forms.py", "import numpy\ndef two(n: int = 5): return {'t': numpy.arange(n), 'v': numpy.linspace(0, 1, n)}\ndef one(): return numpy.array([1.5, 2.5])\n")

    def ask(name, accept, **parameters):
        return client.post("/v1/functions/" + name, {"parameters": parameters}, headers={"Accept": accept})

    with numpy.load(io.BytesIO(ask("forms.two", "application/x-npz", n=100).body)) as arrays:
        assert arrays["t"].tolist() == list(range(100))
    assert zipfile.ZipFile(io.BytesIO(ask("forms.two", "application/zip").body)).namelist()
    assert "2.5" in ask("forms.one", "text/csv").text
    assert ask("forms.two", "text/csv").status == 406
    assert ask("forms.two", "application/cbor").headers["content-type"] == "application/cbor"
    assert ask("forms.two", "image/png").status == 400


def test_pictures(folder, client):
    folder.put("pictures.py", r"""
        from myelin.function import Picture, function
        PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
        SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>"
        @function(plots=[Picture("plot")])
        def draw(): return {"rate": 3.0, "plot": PNG, "drawing": SVG}
        def bare(): return PNG
    """)
    for name in ("draw", "bare"):
        answer = client.post("/v1/functions/pictures." + name, {}, headers={"Accept": "image/png"})
        assert answer.status == 200 and answer.headers["content-type"] == "image/png" and answer.body.startswith(b"\x89PNG"), answer
    assert client.post("/v1/functions/pictures.draw", {}, headers={"Accept": "image/svg+xml"}).text.startswith("<svg")
    assert client.post("/v1/functions/pictures.bare", {}, headers={"Accept": "image/svg+xml"}).status == 400
    data = value(client, "pictures.draw")
    assert data["plot"]["media_type"] == "image/png" and data["rate"] == 3.0


def test_files_runs_and_sessions_as_parameters(folder, client, user):
    folder.put("given.py", """
        from myelin.function import File, Run, Session
        import numpy
        def of_file(data: File): return [open(data).read(), data.endswith("cells.csv")]
        def of_run(run: Run): return float(numpy.sum(run["v"]))
        def of_session(session: Session): return session["a"] + session["b"]
        def shaped(x: numpy.ndarray): return [list(x.shape), float(x.sum())]
    """)
    client.request("PUT", "/v1/files/tables/cells.csv", "1,2,3")
    assert value(client, "given.of_file", data="tables/cells.csv") == ["1,2,3", True]
    for bad in ("nothing.csv", "../x", "/etc/passwd", ""):
        answer = call(client, "given.of_file", data=bad)
        assert answer.status == 422 and answer.json()["errors"][0]["field"] == "data", answer
    folder.put("source.py", "import numpy\ndef v(): return {'v': numpy.ones(500)}\n")
    run = client.post("/v1/functions/source.v", {"keep": True}).headers["myelin-run"]
    assert value(client, "given.of_run", run=run) == 500.0
    assert call(user(), "given.of_run", run=run).status == 422  # somebody else's
    kept = [client.post("/v1/functions/" + name, {"parameters": given, "keep": True}).headers["myelin-run"]
            for name, given in (("given.of_run", {"run": run}), ("given.of_file", {"data": "~/work" + "/tables/cells.csv"}))]
    assert [client.get("/v1/runs/" + one).json()["inputs"] for one in kept] == [
        [run], [{"file": "tables/cells.csv", "sha256": hashlib.sha256(b"1,2,3").hexdigest()}]]
    crate = zipfile.ZipFile(io.BytesIO(client.get("/v1/runs/%s/export?format=rocrate" % kept[1]).body))
    assert b'"name":"tables/cells.csv"' in crate.read("ro-crate-metadata.json")
    session = client.post("/v1/sessions", {"engine": "python"}).json()["id"]
    client.post("/v1/sessions/%s/exec" % session, {"source": "a, b = 40, 2"})
    assert value(client, "given.of_session", session={"session": session, "names": ["a", "b"]}) == 42
    assert call(user(), "given.of_session", session={"session": session, "names": ["a", "b"]}).status == 422
    assert value(client, "given.shaped", x=[[1, 2, 3], [4, 5, 6]]) == [[2, 3], 21.0]
    assert call(client, "given.shaped", x=[[1, 2], [3]]).status == 422
    client.request("DELETE", "/v1/sessions/" + session)


def test_names_that_are_no_names(client):
    for name in ("..%2F..%2Fetc", "a.b.c", "os.system", "1x.y", "x.__class__", "%00", "a" * 500, "h.quit()"):
        assert client.post("/v1/functions/" + name, {}).status in (400, 404), name


def test_a_name_that_several_have(folder, client):
    folder.put("first.py", "def twin(): return 1\n")
    folder.put("second.py", "def twin(): return 2\n")
    answer = call(client, "twin")
    assert answer.status == 409 and "first.twin, second.twin" in answer.json()["detail"]
    assert value(client, "second.twin") == 2


def test_a_folder_is_a_package(folder, client):
    folder.put("parts/__init__.py", "from .helper import twice\ndef f(x): return twice(x)\n")
    folder.put("parts/helper.py", "def twice(x): return 2 * x\n")
    folder.put("beside/beside.py", "import neighbour\ndef f(x): return neighbour.thrice(x)\n")
    folder.put("beside/neighbour.py", "def thrice(x): return 3 * x\n")
    folder.put("notes/readme.txt", "no package\n")
    assert value(client, "parts.f", x=2) == 4 and value(client, "beside.f", x=2) == 6
    folder.put("parts/helper.py", "def twice(x): return 200 * x\n")
    assert value(client, "parts.f", x=2) == 400


def test_links_and_hidden_files_are_no_functions(folder, client):
    folder.put(".hidden.py", "def f(): return 1\n")
    folder.put("with-dash.py", "def f(): return 1\n")
    os.makedirs(folder.path / "__pycache__", exist_ok=True)
    ids = [f["id"] for f in client.get("/v1/functions").json()["functions"]]
    assert not any("hidden" in i or "dash" in i or "pycache" in i for i in ids)


def test_what_was_read_is_known_after_a_restart(make_server, data_root, _counter):
    data = data_root / ("f%d" % next(_counter))
    first = make_server(data=data)
    (data / "functions").mkdir()
    (data / "functions" / "stays.py").write_text("def f(): return 1\n")
    assert first.client().post("/v1/functions/stays.f", {}).status == 200
    first.stop()
    second = make_server(data=data)
    begun = time.monotonic()
    assert second.client().get("/v1/functions/stays.f").status == 200
    assert time.monotonic() - begun < 60
    assert json.loads(second.client().post("/v1/functions/stays.f", {}).body)["data"] == 1


def test_remembered_results_are_of_the_same_values(folder, client):
    folder.put("exact.py", """
        from myelin.function import function

        @function(deterministic=True)
        def either(x: "int | float"): return [type(x).__name__, x]

        @function(deterministic=True)
        def text(x: str): return [type(x).__name__]
    """)
    assert value(client, "exact.either", x=1) == ["int", 1]
    raw = client.request("POST", "/v1/functions/exact.either", '{"parameters": {"x": 1.0}}', {"Content-Type": "application/json"}).json()["data"]
    assert raw == ["float", 1.0]
    assert value(client, "exact.either", x=9007199254740993)[1] == 9007199254740993 and value(client, "exact.either", x=9007199254740992)[1] == 9007199254740992
    client.request("POST", "/v1/functions/exact.text", '{"parameters": {"x": NaN}}', {"Content-Type": "application/json"})
    assert value(client, "exact.text", x="NaN") == ["str"]


def test_a_seed_is_also_numpys(folder, client):
    folder.put("draws.py", """
        import numpy
        from numpy.random import default_rng

        def f(): return [default_rng().random(), numpy.random.default_rng().random(), numpy.random.rand(), default_rng(7).random()]
    """)
    first, second, other = (client.post("/v1/functions/draws.f", {"seed": seed}).json()["data"] for seed in (1, 1, 2))
    assert first == second and first[0] != first[1] and first[:3] != other[:3] and first[3] == other[3]
