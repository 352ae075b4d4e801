"""Sweeps: many points, one job, one result."""

import time

import pytest

from conftest import wait_until
from functions.conftest import call

FI = """
    from typing import Annotated
    from myelin.function import Range, function
    import numpy

    @function(deterministic=True)
    def fi(amp: Annotated[float, Range(-1, 1)] = 0.1, n: int = 100, fail: bool = False):
        if fail or amp > 0.9:
            raise ValueError("too much")
        return {"rate": amp * 10, "trace": {"v": numpy.linspace(0, amp, n), "spikes": numpy.arange(int(round(amp * 1000)))}, "label": "cell"}

    def scalar(x, y=1): return x * y

    def slow(x):
        import time
        time.sleep(1000)

    def noise(x):
        import random
        return random.random()
"""


@pytest.fixture
def sweeps(folder, client):
    folder.put("sweeping.py", FI)
    assert call(client, "sweeping.scalar", x=1).status == 200
    return client


def start(client, **content):
    answer = client.post("/v1/sweeps", content)
    assert answer.status == 202, answer
    assert answer.headers["location"] == "/v1/jobs/" + answer.json()["id"]
    return answer.json()["id"]


def end(client, job):
    return wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job).json()), "the end of the sweep")


def result(client, job):
    return client.get("/v1/runs/%s/result" % job).json()["data"]


def test_a_grid_becomes_arrays(sweeps):
    job = start(sweeps, function="sweeping.fi", parameters={"n": 200}, grid={"amp": [0.1, 0.2, 0.3]}, title="FI curve")
    run = end(sweeps, job)
    assert (run["state"], run["kind"], run["function"], run["title"]) == ("done", "sweep", "sweeping.fi", "FI curve")
    data = result(sweeps, job)
    assert data["axes"] == {"amp": [0.1, 0.2, 0.3]} and (data["points"], data["done"], data["failed"]) == (3, 3, 0)
    assert data["results"]["rate"] == [1.0, 2.0, 3.0]
    assert len(data["results"]["trace"]["v"]) == 3 and data["results"]["trace"]["v"][2][-1] == 0.3
    assert [len(s) for s in data["results"]["trace"]["spikes"]] == [100, 200, 300] and data["results"]["label"] == ["cell"] * 3
    shapes = {d["name"]: d["shape"] for d in run["datasets"]}
    assert shapes["results.rate"] == [3] and shapes["results.trace.v"] == [3, 200]
    assert sweeps.get("/v1/runs/%s/export?format=npz" % job).status == 200
    again = sweeps.post("/v1/runs/%s/rerun" % job, {}).json()["id"]
    assert end(sweeps, again)["comparison"]["identical"]


def test_two_axes_and_a_list_of_points(sweeps):
    job = start(sweeps, function="sweeping.scalar", grid={"x": [1, 2, 3], "y": [10, 20]})
    end(sweeps, job)
    assert result(sweeps, job)["results"] == [[10, 20], [20, 40], [30, 60]]
    job = start(sweeps, function="sweeping.scalar", parameters={"y": 2}, points=[{"x": 1}, {"x": 5, "y": 3}])
    end(sweeps, job)
    data = result(sweeps, job)
    assert data["results"] == [2, 15] and data["parameters"] == {"x": [1, 5], "y": [None, 3]}


def test_points_that_fail_leave_a_gap(sweeps):
    job = start(sweeps, function="sweeping.fi", parameters={"n": 100}, points=[{"amp": 0.1}, {"amp": 0.2, "fail": True}, {"amp": 0.3}])
    assert end(sweeps, job)["state"] == "done"
    data = result(sweeps, job)
    assert data["failed"] == 1 and data["errors"][0]["point"] == 1 and data["errors"][0]["detail"] == "too much"
    assert data["results"]["rate"] == [1.0, None, 3.0] and data["results"]["trace"]["v"][1] == [None] * 100
    job = start(sweeps, function="sweeping.fi", grid={"amp": [0.1], "fail": [True]})
    assert end(sweeps, job)["state"] == "failed"  # not one point came through


def test_all_points_are_checked_first(sweeps):
    answer = sweeps.post("/v1/sweeps", {"function": "sweeping.fi", "grid": {"amp": [0.1, 7]}})
    assert answer.status == 422 and answer.json()["errors"][0]["field"] == "amp" and "point 1" in answer.json()["detail"]


@pytest.mark.parametrize("content, status", [
    ({}, 400), ({"function": "sweeping.fi"}, 400), ({"function": "sweeping.fi", "grid": {}}, 400), ({"function": "sweeping.fi", "grid": {"amp": 3}}, 422),
    ({"function": "sweeping.fi", "grid": {"amp": []}}, 422), ({"function": "sweeping.fi", "points": [1]}, 422), ({"function": "sweeping.fi", "points": []}, 400),
    ({"function": "sweeping.fi", "grid": {"amp": [0.1]}, "points": [{}]}, 400), ({"function": "no.such", "grid": {"amp": [0.1]}}, 404),
    ({"function": "sweeping.fi", "grid": {"amp": [0.1] * 501}}, 413), ({"function": "sweeping.fi", "grid": {"amp": [0.1] * 30, "n": [1] * 30}}, 413),
    ({"function": "sweeping.fi", "session": "s_1", "grid": {"amp": [0.1]}}, 400), ({"session": "s_1", "source": "", "grid": {"amp": [0.1]}}, 404),
    ({"function": "sweeping.fi", "grid": {"amp": [0.1]}, "zz": 1}, 400),
])
def test_sweeps_that_mean_nothing(sweeps, content, status):
    answer = sweeps.post("/v1/sweeps", content)
    assert answer.status == status, answer


def test_progress_partial_results_and_cancel(sweeps):
    job = start(sweeps, function="sweeping.slow", grid={"x": list(range(50))})
    wait_until(lambda: sweeps.get("/v1/jobs/" + job).json()["state"] == "running", "the start")
    shown = sweeps.get("/v1/sweeps/" + job).json()
    assert (shown["points"], shown["done"], shown["sweep"]["function"]) == (50, 0, "sweeping.slow")
    assert sweeps.get("/v1/sweeps/%s/result" % job).json()["data"]["done"] == 0
    # Callers that wait go first.
    begun = time.monotonic()
    assert call(sweeps, "sweeping.scalar", x=3).status == 200
    assert time.monotonic() - begun < 30
    assert sweeps.post("/v1/jobs/%s/cancel" % job, {}).status == 202
    assert end(sweeps, job)["state"] == "cancelled"
    assert sweeps.get("/v1/sweeps/" + job).json()["state"] == "cancelled"
    assert sweeps.get("/v1/sweeps/r_nothing").status == 404


def test_a_sweep_can_be_repeated_to_the_bit(sweeps):
    job = start(sweeps, function="sweeping.noise", grid={"x": [1, 2, 3]})
    assert end(sweeps, job)["state"] == "done"
    values = result(sweeps, job)["results"]
    assert len(set(values)) == 3
    again = sweeps.post("/v1/runs/%s/rerun" % job, {}).json()["id"]
    assert end(sweeps, again)["comparison"]["identical"]


def test_points_of_a_session_are_branches(sweeps):
    session = sweeps.post("/v1/sessions", {"engine": "python"}).json()["id"]
    sweeps.post("/v1/sessions/%s/exec" % session, {"source": "base = [100]"})
    job = start(sweeps, session=session, source="base.append(x)\nout = {'sum': sum(base) + x * y, 'n': len(base)}", **{"return": "out"}, grid={"x": [1, 2], "y": [10, 20]})
    assert end(sweeps, job)["state"] == "done"
    assert result(sweeps, job)["results"] == {"n": [[2, 2], [2, 2]], "sum": [[111, 121], [122, 142]]}
    answer = sweeps.post("/v1/sessions/%s/exec" % session, {"source": "", "return": "base"})
    assert answer.json()["data"] == [100]  # the session itself is as it was
    assert [s["id"] for s in sweeps.get("/v1/sessions").json()["sessions"] if s.get("parent") == session] == []
    assert sweeps.post("/v1/sweeps", {"session": session, "source": "", "grid": {"not a name": [1]}}).status == 422
    sweeps.request("DELETE", "/v1/sessions/" + session)


def test_many_points(sweeps):
    job = start(sweeps, function="sweeping.scalar", grid={"x": list(range(100))})
    end(sweeps, job)
    assert result(sweeps, job)["results"] == list(range(100))


def test_large_requests_and_many_sweeps_are_refused_at_once(sweeps):
    big = {"function": "sweeping.scalar", "parameters": {"x": list(range(200_000))}, "grid": {"y": list(range(300))}}
    began = time.monotonic()
    assert sweeps.post("/v1/sweeps", big).status == 413 and time.monotonic() - began < 5
    slow = {"function": "sweeping.slow", "points": [{"x": 1}] * 3}
    running = [start(sweeps, **slow) for _ in range(8)]
    assert sweeps.post("/v1/sweeps", slow).status == 429
    for job in running:
        assert sweeps.post("/v1/jobs/%s/cancel" % job, {}).status in (200, 202, 204)
    assert all(end(sweeps, job)["state"] == "cancelled" for job in running)


def test_points_of_a_list_are_each_checked(sweeps):
    wrong = sweeps.post("/v1/sweeps", {"function": "sweeping.scalar", "points": [{"x": 1}, {"y": 2}]})
    assert wrong.status in (202, 422)  # untyped: Python itself says so
    for points, where in (([{"amp": 0.1}, {"amp": 7}], "point 1"), ([{"amp": 7}], "point 0"), ([{"amp": 0.1}, {"zz": 1}], "point 1")):
        answer = sweeps.post("/v1/sweeps", {"function": "sweeping.fi", "points": points})
        assert answer.status == 422 and where in str(answer.json()), answer
    answer = sweeps.post("/v1/sweeps", {"function": "sweeping.fi", "grid": {"n": [1, 2], "amp": [0.1, 0.2, 7]}})
    assert answer.status == 422 and "point 2" in str(answer.json()), answer


def test_looking_at_a_sweep_takes_nothing_from_it(folder, client):
    folder.put("texts.py", """
        def f(x):
            import time
            time.sleep(0.2)
            return {"text": "t" * 3_000_000, "n": x}
    """)
    job = start(client, function="texts.f", grid={"x": list(range(12))})
    looks = 0
    while client.get("/v1/jobs/" + job).json()["state"] in ("queued", "running"):
        looks += client.get("/v1/sweeps/%s/result" % job).status in (200, 409)
    assert looks > 0 and end(client, job)["state"] == "done"
    data = client.get("/v1/runs/%s/result" % job).json()["data"]["results"]
    assert data["n"] == list(range(12)) and [len(text) for text in data["text"]] == [3_000_000] * 12
