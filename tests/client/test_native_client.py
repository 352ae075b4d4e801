"""myelin.Client: each method, on the real server where it has the feature (see serving.py)."""

import http.server
import pickle
import socket
import threading
import warnings

import numpy
import pytest

import myelin
from conftest import PATIENCE_S, wait_until
from myelin.client import errors
from serving import contract, contract_socket, served  # noqa: F401


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("MYELIN_URL", "MYELIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_exec_keeps_variables_and_gives_arrays(served):
    with served("exec").client().session("python") as session:
        result = session.exec("import numpy\na = numpy.arange(200.).reshape(2, 100)\nprint('hello')", returns="a")
        assert isinstance(result.data, numpy.ndarray) and result.data[1, :3].tolist() == [100, 101, 102]
        assert result.stdout == "hello\n" and result.run is None
        result = session.exec("b = float(a.sum())", returns=["a", "b"])
        assert result["b"] == 19900.0 and result["a"].shape == (2, 100)
        assert session.exec("c = 'a' in dir()", returns="c", fresh=True).data is False
        assert session.exec("x = [1, 'ü', None, {'k': True}]", returns="x").data == [1, "ü", None, {"k": True}]
    with pytest.raises(errors.MyelinError) as error:
        session.exec("a = 1")
    assert error.value.code in ("gone", "not_found", "worker_lost")


def test_a_failing_script_says_what_where_and_what_it_printed(served):
    with served("exec").client().session("python") as session:
        with pytest.raises(errors.CallFailedError) as error:
            session.exec("print('before')\n\n1/0")
        e = error.value
        assert (e.code, e.line, e.class_name, e.stdout) == ("call_failed", 3, "ZeroDivisionError", "before\n")
        assert "division by zero" in str(e) and e.traceback
        with pytest.raises(errors.CallFailedError) as error:
            session.exec("def f(:")
        assert error.value.class_name == "SyntaxError" and error.value.line == 1
        assert session.exec("a = 1", returns="a").data == 1
        assert pickle.loads(pickle.dumps(e)).line == 3


def test_sessions_are_found_again_by_name(served):
    client = served("sessions").client()
    first = client.session("python", "shared name")
    try:
        first.exec("a = 7")
        with client.session("python", "shared name") as same:
            assert same == first and same.exec("", returns="a").data == 7
        assert first.state == "idle", "with leaves what it did not make"
        assert first in client.sessions() and client.attach(first.id).name == "shared name"
        assert first.engine == "python"
    finally:
        first.delete()
    wait_until(lambda: first not in client.sessions(), "the session's end")


def test_interrupt_and_output(served):
    with served("interrupt", "output").client().session("python") as session:
        assert session.interrupt() is False
        failed = []

        def run():
            try:
                session.exec("print('begun', flush=True)\nwhile True: pass")
            except errors.CallFailedError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while "begun" not in session.output():
            pass
        assert session.interrupt() is True
        thread.join(PATIENCE_S)
        assert isinstance(failed[0], errors.CallInterruptedError)


def test_errors_have_a_class_for_each_code(served):
    client = served("sessions").client()
    with pytest.raises(errors.NotFoundError, match="python"):
        client.session("nosuch")
    with pytest.raises(errors.MyelinError) as error:
        client.attach("s_nosuch")
    assert error.value.code == "not_found"
    wrong = myelin.Client(client._transport.where, "wrong")
    with pytest.raises(errors.UnauthorizedError, match="token"):
        wrong.sessions()
    assert wrong.health()["status"] == "ok"
    for code, kind in errors.by_code.items():
        assert type(errors.problem({"code": code, "status": 400, "detail": "d"})) is kind
    assert errors.problem({"code": "new", "detail": "d"}).code == "new"
    assert isinstance(errors.problem("Bad Gateway", 503), errors.UnavailableError)


def test_no_server():
    with pytest.raises(errors.UnreachableError, match="myelin serve"):
        myelin.Client("http://127.0.0.1:1").sessions()
    with pytest.raises(errors.UnreachableError):
        myelin.Client(socket="/nonexistent/socket").sessions()
    with pytest.raises(ValueError):
        myelin.Client("ftp://x")


def test_environment(served, monkeypatch):
    there = served("sessions")
    monkeypatch.setenv("MYELIN_URL", there.url)
    monkeypatch.setenv("MYELIN_TOKEN", there.token)
    assert isinstance(myelin.Client().sessions(), list)


def test_unix_socket_of_the_server(server):
    client = myelin.Client(socket=server.data / "socket")
    assert client.status()["user"] == "operator" and client.status()["operator"] is True
    with client.session("python") as session:
        assert session.exec("a = 1", returns="a").data == 1
    assert myelin.Client("unix:%s/socket" % server.data, server.token).status()["operator"] is True
    with pytest.raises(errors.UnauthorizedError):
        myelin.Client("unix:%s/socket" % server.data, "wrong").status()


def test_stream_and_loop_over_a_unix_socket(contract_socket):
    with myelin.Client(socket=contract_socket.url[5:], token="secret").session("python") as session:
        with session.loop() as loop:
            assert loop.step(advance=2.5)["time_ms"] == 2.5


def test_threads_share_a_client(served):
    with served("exec").client() as client, client.session("python") as a, client.session("python") as b:
        seen = []
        threads = [threading.Thread(target=lambda s=s: seen.extend(s.exec("v = 1", returns="v").data for _ in range(10))) for s in (a, b, a, b)]
        [t.start() for t in threads]
        [t.join(PATIENCE_S) for t in threads]
        assert seen == [1] * 40


def test_a_call_that_may_have_run_is_never_repeated():
    requests = []

    class Drop(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(self.path)
            self.close_connection = True

        def log_message(self, *_):
            pass

    dropping = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drop)
    threading.Thread(target=dropping.serve_forever, daemon=True).start()
    try:
        client = myelin.Client("http://127.0.0.1:%d" % dropping.server_port)
        with pytest.raises(errors.UnreachableError):
            client._value("POST", "/v1/sessions", {"engine": "nest"})
        assert len(requests) == 1
    finally:
        dropping.shutdown()
        dropping.server_close()


def test_a_timeout_says_that_the_call_may_still_run():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = myelin.Client("http://127.0.0.1:%d" % silent.getsockname()[1], timeout=0.2)
        with pytest.raises(errors.DeadlineError, match="may still run"):
            client.sessions()


def test_call_and_functions_as_attributes(served):
    with served("call").client().session("python") as session:
        session.exec("import numpy\ndef add(a, b=1):\n    return numpy.asarray(a) + b")
        assert list(session.call("add", numpy.array([1.0, 2.0]), b=2)) == [3.0, 4.0]
        assert list(session.functions.add([1], b=1)) == [2] and list(session.nest.add([0])) == [1]
        with pytest.raises(AttributeError):
            session.nest.__deepcopy__
        with pytest.raises(errors.CallFailedError):
            session.call("nosuch")


# -- branches


def test_branches_go_their_own_ways(served):
    with served("branch").client().session("python") as session:
        session.exec("a = [1]")
        one = session.branch()
        two, three = session.branch(2)
        (named,) = session.branch(names=["mine"])
        for number, branch in enumerate((one, two, three, named)):
            assert branch.info["parent"] == session.id
            branch.exec("a.append(%d)" % number)
            assert branch.exec("", returns="a").data == [1, number]
        assert named.name == "mine" and session.exec("", returns="a").data == [1]
        for branch in (one, two, three, named):
            branch.delete()


def test_what_blocks_a_branch_is_said(contract):
    with contract.client().session("python") as session:
        session.exec("blocked = True")
        with pytest.raises(errors.ConflictError, match="thread"):
            session.branch()


def test_checkpoints_and_rewind(served):
    with served("checkpoints").client().session("python") as session:
        session.exec("a = 1")
        before = session.checkpoint("before")
        session.exec("a = 2")
        assert [c.name for c in session.checkpoints()] == ["before"]
        assert session.rewind(before).id == session.id
        assert session.exec("", returns="a").data == 1
        before.rewind()
        before.delete()
        assert session.checkpoints() == []
        with pytest.raises(errors.NotFoundError):
            session.rewind("c_nosuch")


def test_a_dropped_checkpoint_is_warned_of(contract):
    with contract.client().session("python") as session:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for name in "abc":
                session.checkpoint(name)
        assert [str(w.message) for w in seen if "dropped" in str(w.message)] == ["dropped to make room: checkpoint a"]


# -- streams and loops


def test_a_stream_goes_on_after_a_break_and_misses_nothing(contract):
    session = contract.client().session("python")
    fake = contract.contract.sessions[session.id]
    stream = session.stream(["spikes"], after=0)
    assert next(stream)["topic"] == "state"
    got = []
    for number in range(200):
        fake.emit("spikes", recorder=3, times=numpy.array([number + 0.5]), senders=numpy.array([number]))
        if number % 20 == 7:
            fake.sockets.pop().shutdown(socket.SHUT_RDWR)
        event = next(stream)
        assert isinstance(event["times"], numpy.ndarray)
        got += event["senders"].tolist()
    assert got == list(range(200)) and stream.seq == 200
    again = session.stream(["spikes"], after=150)
    assert next(again)["topic"] == "state" and next(again)["seq"] == 151
    again.close()
    assert list(again) == []
    session.delete()
    assert [e.get("state") for e in stream] in ([], ["ended"])


def test_a_stream_tells_of_a_call_and_ends_with_its_session(served):
    session = served("stream").client().session("python")
    stream = session.stream(["stdout", "state"])
    assert next(stream)["topic"] == "state"
    session.exec("print('x')")
    session.delete()
    events = list(stream)
    assert "x\n" in "".join(e["text"] for e in events if e["topic"] == "stdout")
    assert [e["state"] for e in events if e["topic"] == "state"][-1] == "ended"
    numbers = [e["seq"] for e in events]
    assert numbers == sorted(set(numbers))


def test_a_stream_ends_by_close_from_another_thread(served):
    with served("stream").client().session("python") as session:
        stream = session.stream()
        assert next(stream)["topic"] == "state"
        threading.Timer(0.1, stream.close).start()
        for _ in stream:
            pass


def test_a_stream_that_is_refused_says_why(served):
    there = served("stream")
    with there.client().session("python") as session:
        session._client._transport.token = "wrong"
        with pytest.raises(errors.UnauthorizedError):
            next(session.stream())
        session._client._transport.token = there.token


def test_loop(contract):
    with contract.client().session("nest") as session, session.loop() as loop:
        answer = loop.step(set=[([1, 2], {"I_e": numpy.float64(376.0)})], advance=1.0, get=[([1, 2], ["I_e"])])
        assert answer["time_ms"] == 1.0 and answer["get"][0]["I_e"].tolist() == [376.0, 376.0]
        assert loop.step(advance=1.0)["time_ms"] == 2.0


def test_loop_calls_and_errors(served):
    with served("loop").client().session("python") as session:
        session.exec("def step(x):\n    return [1 / x] * 20000")
        with session.loop() as loop:
            assert len(loop.call("step", 2)) == 20000
            with pytest.raises(errors.CallFailedError) as error:
                loop.call("step", 0)
            assert error.value.class_name == "ZeroDivisionError" and error.value.line == 2
            assert loop.call("step", 1)[0] == 1
        with pytest.raises(errors.UnreachableError, match="over"):
            loop.call("step", 1)


# -- jobs and runs


def test_a_job_is_waited_for_with_its_progress(contract):
    with contract.client().session("python") as session:
        seen = []
        job = session.submit("import time\nfor i in range(40):\n    progress(i / 40, i, 40)\n    time.sleep(0.05)\na = 3", returns="a", title="t")
        assert job.wait(lambda j: seen.append(j.progress)) is job
        assert seen[-1] == 1.0 and any(p is not None and p < 1 for p in seen)
        assert job.state == "done" and job.result().data == 3 and job in contract.client().jobs()


def test_jobs(served):
    client = served("jobs").client()
    with client.session("python") as session:
        job = session.submit("a = 3\nprint('p')", returns="a")
        result = job.result(timeout=PATIENCE_S)
        assert (result.data, result.stdout) == (3, "p\n") and client.job(job.id).state == "done"
        failing = session.submit("1/0")
        with pytest.raises(errors.CallFailedError):
            failing.result(timeout=PATIENCE_S)
        assert failing.state == "failed"
        job.forget()
        with pytest.raises(errors.NotFoundError):
            client.job(job.id)
        session.exec("def double(x): return 2 * x")
        assert session.submit_call("double", 4).result(timeout=PATIENCE_S).data == 8


def test_a_job_is_cancelled(served):
    with served("jobs").client().session("python") as session:
        job = session.submit("print('begun')\nwhile True: pass")
        while "begun" not in session.output():
            pass
        with pytest.raises(TimeoutError):
            job.wait(timeout=0)
        job.cancel()
        assert job.wait(timeout=PATIENCE_S).state == "cancelled"


def test_runs(served, tmp_path):
    client = served("runs").client()
    with client.session("python") as session:
        source = "import numpy\nnumpy.random.seed(1)\nv = numpy.random.random(100)\nw = numpy.arange(6).reshape(2, 3)"
        run = session.exec(source, returns=["v", "w"], keep=True, title="first of two").run
        other = session.exec(source.replace("seed(1)", "seed(2)"), returns=["v", "w"], keep=True, title="second").run
        assert run.id.startswith("r_") and run.state == "done" and run.title == "first of two"
        assert sorted(run.datasets) == ["v", "w"] and run.datasets["w"]["shape"] == [2, 3]
        assert run["v"].dtype == numpy.float64 and run["v"].shape == (100,) and run["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(KeyError, match="v, w"):
            run["x"]
        assert run.result()["v"].tolist() == run["v"].tolist()
        with numpy.load(run.export(tmp_path / "run.npz")) as saved:
            assert any("v" in name and saved[name].tolist() == run["v"].tolist() for name in saved.files)
        assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
        with pytest.raises(ValueError):
            run.export(tmp_path / "run.xyz")
        comparison = run.compare(other)
        assert comparison["identical"] is False
        assert {d["name"]: d["identical"] for d in comparison["datasets"]} == {"v": False, "w": True}
        assert run.compare(run)["identical"] is True
        derived = session.exec("m = float(v.mean())", returns="m", keep=True, inputs=[run, other.id]).run
        assert derived.info["inputs"] == [run.id, other.id]
        again = run.rerun()
        again.wait(timeout=PATIENCE_S)
        assert again.info["comparison"]["identical"] is True and again.info["inputs"] == [run.id]
        assert run in client.runs(title="first of two") and client.run(run.id) == run
        assert run not in client.runs(engine="nest")
        assert run.update(title="renamed").title == "renamed"
        run.delete()
        with pytest.raises(errors.NotFoundError):
            client.run(run.id)


def test_a_long_list_of_runs_comes_in_pages(contract):
    client = contract.client()
    with client.session("python") as session:
        for number in range(7):
            session.exec("a = %d" % number, returns="a", keep=True)
        assert len(client.runs(limit=3)) == 3 and len(client.runs()) == 7
        first = client.runs(limit=3)
        assert len(client.runs(limit=None, after=first[-1].id)) == 4
        queries = [path for method, path, _ in contract.contract.requests if path.startswith("/v1/runs?")]
        assert "limit=3" in queries[0]


# -- files, tokens, the server


def test_files(served, tmp_path):
    client = served("files").client()
    with client.session("python") as session:
        for files in (session.files, client.files):
            files.put("ü b.txt", "text")
            files.mkdir("sub")
            (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 4096)
            files.upload(tmp_path / "big.bin", "sub/big.bin")
            assert files.get("ü b.txt") == b"text"
            assert {e["name"]: e["type"] for e in files.list()}.items() >= {"ü b.txt": "file", "sub": "directory"}.items()
            assert [e["bytes"] for e in files.list("sub")] == [1 << 20]
            files.download("sub/big.bin", tmp_path / "back.bin")
            assert (tmp_path / "back.bin").read_bytes() == (tmp_path / "big.bin").read_bytes()
            files.delete("sub/big.bin")
            files.delete("ü b.txt")
            with pytest.raises(errors.NotFoundError):
                files.get("ü b.txt")
            with pytest.raises(errors.NotFoundError):
                files.download("nosuch", tmp_path / "nosuch")
            assert not (tmp_path / "nosuch").exists() and not (tmp_path / "nosuch.part").exists()


def test_tokens(served):
    client = served("tokens").client()
    assert len(client.tokens.add("bob")) >= 32
    assert "bob" in [t["name"] for t in client.tokens.list()]
    client.tokens.remove("bob")


def test_engines_and_metrics(served):
    client = served("engines").client()
    assert {e["name"]: e["ready"] for e in client.engines()}["nest"] in (True, False)
    assert "myelin_" in client.metrics()


def test_recorders(contract):
    with contract.client().session("nest") as session:
        assert session.recorders()[0]["model"] == "spike_recorder"
