"""The server's own function run_cell, and what may be called without a token."""

import pytest
from conftest import wait_until


def test_numbers(client):
    answer = client.post("/v1/functions/run_cell", {"parameters": {"tstop": 100, "dur": [10, 90], "amp": 0.2}})
    assert answer.status == 200, answer
    data = answer.json()["data"]
    assert len(data["t"]) == len(data["v"]) == 4001 and data["t"][-1] == pytest.approx(100) and data["v"][0] == -70
    assert data["current"] == pytest.approx([0.2 + 0.1 * i for i in range(10)]) and len(data["frequency"]) == 10
    assert data["frequency"][-1] == pytest.approx(len(data["spikes"]) * 1000 / 80)
    one = client.post("/v1/functions/myelin.run_cell", {"parameters": {"tstop": 100, "dur": [10, 90], "amp": 0.2, "fi": False}}).json()["data"]
    assert one["current"] == [0.2] and one["frequency"] == data["frequency"][:1]


def test_a_second_call_is_remembered(client):
    body = {"parameters": {"tstop": 51}}
    first, second = (client.post("/v1/functions/run_cell", body) for _ in range(2))
    assert (first.headers["myelin-cache"], second.headers["myelin-cache"]) == ("miss", "hit") and first.json() == second.json()


def test_pictures(client):
    body = {"parameters": {"tstop": 50, "dur": [5, 45]}}
    png = client.post("/v1/functions/run_cell", body, headers={"Accept": "image/png"})
    assert png.status == 200 and png.headers["content-type"] == "image/png" and png.body.startswith(b"\x89PNG")
    svg = client.post("/v1/functions/run_cell", body, headers={"Accept": "image/svg+xml"})
    assert svg.headers["content-type"] == "image/svg+xml" and b"<svg" in svg.body[:300]


@pytest.mark.parametrize("parameters, status, field", [
    ({"amp": 11}, 422, "amp"), ({"diam": 0}, 422, "diam"), ({"dur": [1]}, 422, "dur"), ({"tstop": "x"}, 422, "tstop"), ({"more": 1}, 422, "more"),
    ({"tstop": 1e9}, 422, "tstop"), ({"dur": [5, 5]}, 400, "dur"), ({"dur": [0, float("nan")]}, 422, "dur"),
])
def test_wrong_parameters_name_their_field(client, parameters, status, field):
    answer = client.post("/v1/functions/run_cell", {"parameters": parameters})
    assert answer.status == status and field in str(answer.json()), answer


def test_a_sweep_of_it(client):
    answer = client.post("/v1/sweeps", {"function": "myelin.run_cell", "parameters": {"tstop": 20, "dur": [5, 15], "fi": False},
                                        "grid": {"amp": [round(-1 + 0.1 * i, 3) for i in range(20)]}})
    assert answer.status == 202, answer
    run = answer.json()["id"]
    done = wait_until(lambda: (r := client.get("/v1/runs/" + run).json())["state"] in ("done", "failed") and r, "the sweep", 30)
    assert done["state"] == "done", done
    found = client.get("/v1/sweeps/%s/result" % run).json()["data"]
    one = client.post("/v1/functions/run_cell", {"parameters": {"tstop": 20, "dur": [5, 15], "fi": False, "amp": 0.5}}).json()["data"]
    assert found["done"] == 20 and found["failed"] == 0 and found["results"]["v"][15] == one["v"], "packed or alone, the voltages are the same"


def test_a_point_that_cannot_run_fails_alone(client):
    body = {"function": "run_cell", "parameters": {"fi": False, "traces": False}, "points": [{"tstop": 20, "dur": [5, 15]}, {"dur": [7, 7]}, {"tstop": 30, "dur": [5, 15]}]}
    run = client.post("/v1/sweeps", body).json()["id"]
    done = wait_until(lambda: (r := client.get("/v1/runs/" + run).json())["state"] in ("done", "failed") and r, "the sweep", 30)
    found = client.get("/v1/sweeps/%s/result" % run).json()["data"]
    assert done["state"] == "done" and found["failed"] == 1 and found["errors"][0]["point"] == 1 and "dur" in found["errors"][0]["detail"], found


def test_without_a_token(functions_server, client):
    nobody = functions_server.client(None)
    assert "myelin.run_cell" in [one["id"] for one in nobody.get("/v1/functions").json()["functions"]]
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 10, "dur": [1, 9]}}).status == 200
    # What is kept belongs to somebody.
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 10}, "keep": True}).status == 401
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 10}}, headers={"Prefer": "respond-async"}).status == 401
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 10}}, headers={"Accept": "text/csv"}).status == 401
    assert nobody.post("/v1/sweeps", {"function": "myelin.run_cell"}).status == 401
    assert nobody.get("/v1/packages").status == 401


def test_no_function_answers_without_a_token_where_that_is_off(make_server):
    server = make_server(functions={"public": False})
    nobody, known = server.client(None), server.client()
    for path in ("/v1/functions", "/v1/functions/run_cell"):
        assert nobody.get(path).status == 401 and known.get(path).status == 200
    assert nobody.post("/v1/functions/run_cell", {}).status == 401
    assert nobody.post("/api/v1/function", {"function": "return_params", "params": {"params": 1}}).status == 401
    with_token = {"Authorization": "Bearer " + server.token}
    assert nobody.post("/api/v1/function", {"function": "return_params", "params": {"params": 1}}, headers=with_token).status == 200
