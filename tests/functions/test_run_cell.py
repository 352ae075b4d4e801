"""The server's own function run_cell, and what may be called without a token."""

import http.client
import json
import socket

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


def test_the_membrane_and_the_gates(client):
    usual = {"tstop": 20, "dur": [5, 15], "fi": False}
    data = client.post("/v1/functions/run_cell", {"parameters": dict(usual, gna=0, gh=0, gk=0)}).json()["data"]
    # Hodgkin and Huxley's cell with this leak; a step of 1 pA to the full model gives the same.
    v = {amp: client.post("/v1/functions/run_cell", {"parameters": {"fi": False, "gna": 0, "gh": 0, "gk": 0, "tstop": 2000, "dur": [1000, 2000], "amp": amp}}).json()["data"]["v"] for amp in (0.001, -0.001)}
    assert data["resting_potential"] == pytest.approx(v[0.001][39000], abs=0.01)
    measured = (v[0.001][-1] - v[-0.001][-1]) / 0.002
    assert data["input_resistance"] == pytest.approx(measured, rel=0.01) and 0.1 < data["time_constant"] < 20
    at = {round(x): i for i, x in enumerate(data["gate_v"])}
    assert (min(at), max(at)) == (-100, 100)
    assert data["m_inf"][at[-62]] == 0 and data["m_inf"][at[50]] > 0.99 and data["h_inf"][at[0]] == 0 and data["n_inf"][at[-70]] == 0 and data["l_inf"][at[-40]] == 0
    assert all(0 <= x <= 1 for gate in "mhnl" for x in data[gate + "_inf"]) and all(x > 0 for gate in "mhnl" for x in data[gate + "_tau"])
    # The usual cell is held at seg1: there is no resistance to give.
    pinned = client.post("/v1/functions/run_cell", {"parameters": usual}).json()["data"]
    assert pinned["resting_potential"] == pytest.approx(-60, abs=0.1) and pinned["input_resistance"] is None and pinned["time_constant"] is None
    small = client.post("/v1/functions/run_cell", {"parameters": dict(usual, traces=False, membrane=False)}).json()["data"]
    assert sorted(small) == ["current", "frequency", "spikes"]


def test_a_sweep_over_cells_tells_their_rest(client):
    grid = {"gl": [10, 100, 1000], "gna": [0]}
    run = client.post("/v1/sweeps", {"function": "run_cell", "parameters": {"fi": False, "traces": False, "gh": 0, "gk": 0, "tstop": 20, "dur": [5, 15]}, "grid": grid}).json()["id"]
    done = wait_until(lambda: (r := client.get("/v1/runs/" + run).json())["state"] in ("done", "failed") and r, "the sweep", 30)
    assert done["state"] == "done", done
    found = client.get("/v1/sweeps/%s/result" % run).json()["data"]["results"]
    resistance = [row[0] for row in found["input_resistance"]]
    assert resistance == sorted(resistance, reverse=True), found
    one = client.post("/v1/functions/run_cell", {"parameters": {"fi": False, "gl": 100, "gna": 0, "gh": 0, "gk": 0, "tstop": 30, "dur": [5, 15]}}).json()["data"]
    assert resistance[1] == pytest.approx(one["input_resistance"], rel=1e-6) and found["time_constant"][1][0] == pytest.approx(one["time_constant"], rel=1e-6)


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


def test_a_sweep_of_long_runs_is_cut_into_what_fits(client):
    run = client.post("/v1/sweeps", {"function": "run_cell", "parameters": {"tstop": 30000, "dur": [10, 29000], "fi": False}, "grid": {"amp": [0.01 * i for i in range(6)]}}).json()["id"]
    done = wait_until(lambda: (r := client.get("/v1/runs/" + run).json())["state"] in ("done", "failed") and r, "the sweep", 60)
    assert done["state"] == "done", done
    assert {tuple(d["shape"]) for d in done["datasets"] if d["name"] in ("v", "results.v")} <= {(6, 1200001)}


def test_a_stranger_sends_little(functions_server):
    nobody = functions_server.client(None)
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"dur": [0] * 1_000_000}}).status == 413


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


def test_without_a_token_little_is_computed_and_held(make_server):
    server = make_server()
    nobody = server.client(None)
    refused = nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 5001, "dur": [1, 9]}})
    assert refused.status == 422 and refused.json()["errors"][0]["field"] == "tstop", refused
    assert server.client().post("/v1/functions/run_cell", {"parameters": {"tstop": 5001, "dur": [1, 9], "fi": False}}).status == 200
    held, statuses = [], []
    for i in range(60):  # 3 MB each, and nobody reads them
        body = json.dumps({"parameters": {"tstop": 5000, "dur": [1, 9], "amp": i / 1000, "fi": False}})
        connection = http.client.HTTPConnection(*server.address, timeout=60)
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.request("POST", "/v1/functions/run_cell", body, {"Content-Type": "application/json"})
        statuses.append(connection.getresponse().status)
        held.append(connection)
    assert statuses[0] == 200 and statuses[-1] == 429 and set(statuses) == {200, 429}, statuses
    assert nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 20, "dur": [1, 9], "fi": False}}).status == 200
    for connection in held:
        connection.close()
    wait_until(lambda: nobody.post("/v1/functions/run_cell", {"parameters": {"tstop": 5000, "dur": [1, 9], "fi": False}}).status == 200, "room again")


def test_a_call_does_not_wait_for_a_sweep(functions_server, client):
    body = {"function": "run_cell", "parameters": {"tstop": 10000, "dur": [100, 9000], "traces": False}, "grid": {"amp": [1 + i / 1000 for i in range(300)]}}
    sweep = client.post("/v1/sweeps", body).json()["id"]
    wait_until(lambda: client.get("/v1/sweeps/" + sweep).json()["state"] == "running", "the sweep")
    assert client.post("/v1/functions/run_cell", {"parameters": {"tstop": 100, "dur": [10, 90], "amp": 0.123}}).status == 200
    seen = client.get("/v1/sweeps/" + sweep).json()
    assert seen["state"] == "running" and seen["done"] == 0, "it came only after points of the sweep"
    assert client.post("/v1/jobs/%s/cancel" % sweep, {}).status == 202
    wait_until(lambda: client.get("/v1/sweeps/" + sweep).json()["state"] == "cancelled", "its end")


def test_no_function_answers_without_a_token_where_that_is_off(make_server):
    server = make_server(functions={"public": False})
    nobody, known = server.client(None), server.client()
    for path in ("/v1/functions", "/v1/functions/run_cell"):
        assert nobody.get(path).status == 401 and known.get(path).status == 200
    assert nobody.post("/v1/functions/run_cell", {}).status == 401
    assert nobody.post("/api/v1/function", {"function": "return_params", "params": {"params": 1}}).status == 401
    with_token = {"Authorization": "Bearer " + server.token}
    assert nobody.post("/api/v1/function", {"function": "return_params", "params": {"params": 1}}, headers=with_token).status == 200
