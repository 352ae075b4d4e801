"""Jobs, and the runs that they leave: what is kept, what is told when it goes wrong, and doing it again."""

import http.client
import io
import json
import zipfile

import pytest

from conftest import Session, wait_until

LATER = {"Prefer": "respond-async"}


@pytest.fixture
def client(server):
    return server.client()


def start(session, source, returns=None, **members):
    content = dict(members, source=source)
    if returns is not None:
        content["return"] = returns
    answer = session.client.post(session.path + "/exec", content, headers=LATER)
    assert answer.status == 202 and answer.headers["location"] == "/v1/jobs/" + answer.json()["id"], answer
    assert answer.headers["preference-applied"] == "respond-async"
    return answer.json()["id"]


def over(client, job):
    def look():
        shown = client.get("/v1/jobs/" + job).json()
        return shown if shown["state"] not in ("queued", "running") else None

    return wait_until(look, "the end of the job")


def test_a_job_answers_later_as_the_call_would_have(client):
    session = Session(client, "nest")
    source = "print('hello')\nn = nest.Create('iaf_psc_alpha', 3)\nnest.Simulate(50.0)\nx = [1.5, float('nan')]"
    job = start(session, source, ["n", "x"])
    shown = over(client, job)
    assert shown["state"] == "done" and shown["stdout"] == "hello\n" and shown["seeds"]["rng_seed"] > 0
    assert shown["versions"]["nest"] and shown["machine"]["cpu"] and shown["expires_at"]
    wanted = {"data": {"n": [1, 2, 3], "x": [1.5, None]}, "stdout": "hello\n"}
    answer = client.get("/v1/jobs/%s/result" % job)
    assert answer.status == 200 and answer.json() == wanted
    bare = client.get("/v1/jobs/%s/result" % job, headers={"Accept": "application/json;nonfinite=bare"})
    assert "NaN" in bare.text
    assert client.get("/v1/jobs/%s/result" % job, headers={"Accept": "application/cbor"}).headers["content-type"] == "application/cbor"
    assert job in [one["id"] for one in client.get("/v1/jobs").json()["jobs"]]
    session.delete()


def test_progress_output_and_cancel(client):
    session = Session(client, "nest")
    job = start(session, "print('begun')\nn = nest.Create('iaf_psc_alpha', 100)\nnest.Simulate(1e9)", ["n"])
    shown = wait_until(lambda: (s := client.get("/v1/jobs/" + job).json()).get("progress") and s, "progress")
    assert shown["state"] == "running" and 0 <= shown["progress"]["done"] < 1 and shown["stream"] == session.path + "/stream"
    assert client.get("/v1/jobs/%s/result" % job).status == 409
    waiting = start(session, "x = 1")
    assert client.post("/v1/jobs/%s/cancel" % waiting).status == 202
    assert over(client, waiting)["state"] == "cancelled"
    assert client.post("/v1/jobs/%s/cancel" % job).status == 202
    shown = over(client, job)
    assert shown["state"] == "cancelled" and "interrupted at t" in shown["error"]["detail"]
    assert client.post("/v1/jobs/%s/cancel" % job).status == 409
    assert "stream" not in shown and shown["datasets"] == [] and len(session.value("", "n")) == 100  # what it had made is the session's
    assert session.value("y = nest.network_size", "y") == 100  # the session lives
    assert client.request("DELETE", "/v1/jobs/" + job).status == 204
    assert client.get("/v1/jobs/" + job).status == 404
    session.delete()


def test_a_failed_job_says_what_the_call_would_have(client):
    session = Session(client, "python")
    shown = over(client, start(session, "print('a')\n1 / 0"))
    assert shown["state"] == "failed" and shown["error"]["class"] == "ZeroDivisionError" and shown["error"]["line"] == 2
    assert shown["stdout"] == "a\n"
    answer = client.get("/v1/jobs/%s/result" % shown["id"])
    assert answer.status == 400 and answer.json()["code"] == "call_failed", answer
    shown = over(client, start(session, "import os\nos._exit(4)"))
    assert shown["state"] == "failed" and "code 4" in shown["error"]["detail"]


def test_keep_makes_a_run_and_answers_as_ever(client):
    session = Session(client, "python")
    answer = session.client.post(session.path + "/exec", {"source": "import numpy as np\nv = np.arange(2000.0)\nt = (1, 2)", "return": ["v", "t"],
                                                          "keep": True, "title": "a ramp"})
    run = answer.headers["myelin-run"]
    assert answer.status == 200 and answer.json()["data"]["v"][:3] == [0.0, 1.0, 2.0]
    shown = client.get("/v1/runs/" + run).json()
    assert shown["title"] == "a ramp" and shown["state"] == "done" and shown["expires_at"] is None
    assert {d["name"]: d["shape"] for d in shown["datasets"]} == {"v": [2000], "t": [2]}
    assert [one["id"] for one in client.get("/v1/runs?title=a%20ramp&engine=python&state=done&limit=1").json()["runs"]] == [run]
    names = zipfile.ZipFile(io.BytesIO(client.get("/v1/runs/%s/export?format=rocrate" % run).body)).namelist()
    assert "ro-crate-metadata.json" in names
    assert client.get("/v1/runs/%s/datasets/t?format=csv" % run).text.split() == ["t", "1", "2"]  # a name alone is no unit
    assert client.request("PATCH", "/v1/runs/" + run, json_body={"title": "b", "expires_at": "2099-01-01T00:00:00Z"}).json()["title"] == "b"
    assert client.request("PATCH", "/v1/runs/" + run, json_body={"expires_at": "soon"}).status == 400
    assert client.request("DELETE", "/v1/runs/" + run).status == 204 and client.get("/v1/runs/" + run).status == 404
    session.delete()


def test_a_kept_call_says_which_runs_it_was_made_from(client):
    session = Session(client, "python")

    def keep(who=session, **members):
        return who.client.post(who.path + "/exec", dict(members, source="v = [1, 2]", keep=True, **{"return": "v"}))

    first = keep().headers["myelin-run"]
    second = keep(inputs=[first])
    assert second.status == 200 and client.get("/v1/runs/" + second.headers["myelin-run"]).json()["inputs"] == [first]
    for wrong in (first, [1], ["r_0"], [first] * 101):
        assert keep(inputs=wrong).status == 400
    stranger = Session(client.with_token(client.post("/v1/tokens", {"name": "stranger to inputs"}).json()["token"]), "python")
    assert keep(stranger, inputs=[first]).status == 400
    stranger.delete()
    session.delete()


def test_a_rerun_is_the_same_to_the_bit_with_its_history(client):
    session = Session(client, "nest")
    session.value("nest.rng_seed = 11\nn = nest.Create('iaf_psc_alpha', 50, {'I_e': 300.0})\np = nest.Create('poisson_generator', params={'rate': 9000.0})\n"
                  "r = nest.Create('spike_recorder')\nnest.Connect(p, n, syn_spec={'weight': 20.0})\nnest.Connect(n, r)", None)
    session.exec("this fails")  # part of the history, too
    answer = session.client.post(session.path + "/exec", {"source": "nest.Simulate(300.0)\ne = r.get('events')", "return": "e", "keep": True})
    run = answer.headers["myelin-run"]
    assert len(answer.json()["data"]["times"]) > 50
    session.delete()
    answer = client.post("/v1/runs/%s/rerun" % run)
    assert answer.status == 202 and answer.json()["kind"] == "rerun" and answer.json()["inputs"] == [run], answer
    shown = over(client, answer.json()["id"])
    assert shown["state"] == "done" and shown["comparison"]["identical"] is True and shown["comparison"]["differs"] == [], shown


@pytest.mark.parametrize("engine", ["python", "nest"])
def test_a_rerun_draws_the_same_random_numbers_again(client, engine):
    session = Session(client, engine)
    session.value("import random\nimport numpy as np\nfirst = random.random()", None)
    kept = session.client.post(session.path + "/exec", {"source": "v = [first, random.random(), np.random.random(), float(np.random.normal())]", "return": ["v"], "keep": True})
    branch = client.post(session.path + "/branch", {}).json()["sessions"][0]["id"]  # goes on with its parent's numbers
    second = client.post("/v1/sessions/%s/exec" % branch, {"source": "v = [random.random(), np.random.random()]", "return": ["v"], "keep": True})
    for answer in (kept, second):
        run = answer.headers["myelin-run"]
        seeds = client.get("/v1/runs/" + run).json()["seeds"]
        assert 0 <= seeds["python"] < 2**32 and ("rng_seed" in seeds) == (engine == "nest"), seeds
        shown = over(client, client.post("/v1/runs/%s/rerun" % run).json()["id"])
        assert shown["seeds"] == seeds and shown["comparison"]["identical"] is True and shown["comparison"]["differs"] == [], shown
    session.delete()
    other = Session(client, engine)
    assert other.value("import random\nv = random.random()", "v") != kept.json()["data"]["v"][0]
    other.delete()


def test_a_rerun_that_differs_says_what_it_may_be(client):
    session = Session(client, "python")
    answer = session.client.post(session.path + "/exec", {"source": "import numpy as np\nv = np.random.default_rng().random(3)", "return": ["v"], "keep": True})
    shown = over(client, client.post("/v1/runs/%s/rerun" % answer.headers["myelin-run"]).json()["id"])
    assert shown["comparison"]["identical"] is False and "random numbers drawn without a seed" in shown["comparison"]["differs"][0], shown
    session.delete()


def test_a_run_that_can_not_be_repeated_says_why(client):
    session = Session(client, "python")
    session.client.request("PUT", session.path + "/files/x.bin", body=b"\0\1")
    answer = session.client.post(session.path + "/exec", {"source": "v = open('x.bin', 'rb').read()[1]", "return": "v", "keep": True})
    run = answer.headers["myelin-run"]
    assert answer.json()["data"] == 1 and client.get("/v1/runs/" + run).json()["history_complete"] is False
    refused = client.post("/v1/runs/%s/rerun" % run)
    assert refused.status == 409 and "files" in refused.json()["detail"]
    session.delete()


def test_what_differs_is_named(client):
    session = Session(client, "python")
    ids = []
    for value in (1.0, 2.0):
        answer = session.client.post(session.path + "/exec", {"source": "v = [0.0, %r, 3.0]" % value, "return": ["v"], "keep": True})
        ids.append(answer.headers["myelin-run"])
    compared = client.get("/v1/runs/compare?a=%s&b=%s" % tuple(ids)).json()
    (one,) = compared["datasets"]
    assert compared["identical"] is False and one["first_difference"] == 1 and one["max_abs_difference"] == 1.0
    session.delete()


def test_timeouts(client):
    session = Session(client, "python")
    answer = session.client.post(session.path + "/exec", {"source": "while True: pass", "timeout_s": 0.5})
    assert answer.status == 504 and answer.json()["code"] == "deadline" and "500 ms" in answer.json()["detail"], answer
    assert session.value("a = 1", "a") == 1
    short = session.client.post(session.path + "/exec", {"source": "while True: pass", "timeout_s": 1e-5})  # not none at all
    assert short.status == 504, short
    for wrong in (0, -1, "1", None):
        assert session.client.post(session.path + "/exec", {"source": "", "timeout_s": wrong}).status == 400
    for wrong in ({"returns": ["a"]}, {"source": "a = 1", "returns": ["a"]}):
        refused = session.client.post(session.path + "/exec", wrong)
        assert refused.status == 400 and refused.json()["class"] == "ValueError", refused
    assert session.client.post(session.path + "/exec", {"source": "", "keep": 1}).status == 400
    session.delete()


@pytest.mark.parametrize("wish, ends", [({}, False), ({"Prefer": "cancel-on-disconnect"}, True)])
def test_a_client_that_leaves(client, server, wish, ends):
    session = Session(client, "python")
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    body = json.dumps({"source": "import time\nend = time.time() + 4\nwhile time.time() < end: pass\ndone = 1"})
    connection.request("POST", session.path + "/exec", body, dict(wish, NESTServerAuth=server.token, **{"Content-Type": "application/json"}))
    wait_until(lambda: session.status().json()["state"] == "busy", "a busy session")
    connection.close()
    wait_until(lambda: session.status().json()["state"] == "idle", "the call's end")
    assert session.value("d = 'done' in globals()", "d") is not ends
    session.delete()


def test_runs_are_private_and_survive_the_server(make_server):
    server = make_server()
    client = server.client()
    session = Session(client, "python")
    kept = client.post(session.path + "/exec", {"source": "v = [1.5, 2.5]", "return": "v", "keep": True}).headers["myelin-run"]
    job = start(session, "import time\ntime.sleep(100)")
    wait_until(lambda: client.get("/v1/jobs/" + job).json()["state"] == "running", "a running job")
    other = client.with_token(client.post("/v1/tokens", {"name": "other"}).json()["token"])
    for path in ("/v1/runs/" + kept, "/v1/runs/%s/result" % kept, "/v1/runs/%s/export" % kept, "/v1/jobs/" + job):
        assert other.get(path).status == 404
    assert other.get("/v1/runs").json()["runs"] == [] and other.post("/v1/jobs/%s/cancel" % job).status == 404
    server.kill()
    again = make_server(data=server.data)
    client = again.client()
    assert client.get("/v1/runs/%s/result" % kept).json()["data"] == [1.5, 2.5]
    shown = client.get("/v1/jobs/" + job).json()
    assert shown["state"] == "lost" and "restarted" in shown["error"]["detail"]


def test_calls_that_were_queued_before_belong_to_the_history(client):
    session = Session(client, "python")
    first = start(session, "import time; time.sleep(1); a = 1")
    second = start(session, "x = 41")
    third = start(session, "y = x + a", "y", keep=True)
    assert over(client, third)["state"] == "done" and over(client, first) and over(client, second)
    assert client.get("/v1/runs/%s/result" % third).json()["data"] == 42
    again = client.post("/v1/runs/%s/rerun" % third)
    assert again.status == 202, again
    assert over(client, again.json()["id"])["state"] == "done"
    assert client.get("/v1/runs/%s/result" % again.json()["id"]).json()["data"] == 42


def test_a_history_that_grows_by_its_quoting_is_cut_not_refused(client):
    session = Session(client, "python")
    assert session.exec("t = '" + '"' * 700_000 + "'").status == 200
    kept = session.client.post(session.path + "/exec", {"source": "n = len(t)", "return": "n", "keep": True})
    assert kept.status == 200 and kept.json()["data"] == 700_000, kept
    assert client.post("/v1/runs/%s/rerun" % kept.headers["myelin-run"]).status == 409


def test_a_kept_call_goes_with_its_client_too(client):
    session = Session(client, "python")
    connection = http.client.HTTPConnection(*client.address, timeout=20)
    connection.request("POST", session.path + "/exec", json.dumps({"source": "while True: pass", "keep": True}),
                       {"NESTServerAuth": client.token, "Content-Type": "application/json", "Prefer": "cancel-on-disconnect"})
    wait_until(lambda: session.status().json()["state"] == "busy", "the call")
    connection.close()
    wait_until(lambda: session.status().json()["state"] == "idle", "its end", 10)
