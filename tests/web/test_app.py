"""The page at /app/, as a visitor with a token uses it, in headless Chromium; and how the server hands it out."""

import os
import pathlib
import re

import pytest

from browser import drive

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOTS = os.environ.get("MYELIN_SHOTS", "")  # a folder for pictures of the views


@pytest.fixture(scope="module", autouse=True)
def built():
    if not (ROOT / "web" / "dist" / "index.html").is_file():
        pytest.skip("web/dist is not built: `make web` does it")


def visit(what, server):
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    result = drive("app.mjs", what, server.url, server.token, SHOTS, timeout=600)
    assert result["errors"] == [] and result["foreign"] == [], result
    return result


def has(server, path):
    return server.client().get(path).status != 404


def test_a_visitor_signs_in_by_link_or_field(server):
    seen = visit("signin", server)
    assert "not known" in seen["refused"]
    assert server.token not in seen["address"] and server.token not in seen["kept"]


def test_every_example_runs_at_one_click(server):
    results = visit("examples", server)["results"]
    assert len(results) == 3
    for result in results:
        assert result["alerts"] == [], result
    network, cell, python = results
    assert re.search(r"\d+ spikes", network["output"])
    assert cell["plots"] == ["v", "Returned values"] and python["plots"] == ["Returned values"]  # the cell's trace is streamed, too
    for result in (cell, python):
        assert result["ink"] > 1000, result
    assert "100 %" in python["output"]


def test_errors_interrupts_values_and_drafts(server):
    seen = visit("scripts", server)
    assert seen["wrong"] == "y = x / 0" and "ZeroDivisionError" in seen["said"]
    assert "before" in seen["output"] and "line 3" in seen["output"]
    assert "Interrupted" in seen["interrupted"]
    assert seen["values"] == "w4" and "w = x + z" in seen["draft"]


def test_the_end_of_a_session_is_told_in_words(server):
    seen = visit("ended", server)
    assert len(seen["reason"]) > len("This session has ended. What it sent is still shown here. Open another") + 10
    assert seen["runDisabled"] and "Ended:" in seen["listed"]


def test_the_page_works_by_keyboard(server):
    seen = visit("keyboard", server)
    assert "run the script" in seen["keys"]
    assert seen["views"] == {"r": "/runs", "e": "/engines", "s": "/"}
    assert seen["dark"] != seen["before"] and seen["unseen"] == []


def test_a_phone_shows_everything_in_its_width(server):
    assert visit("phone", server)["over"] == {"start": 0, "session": 0, "runs": 0, "engines": 0}


def lacks(server, route):
    client = server.client()
    session = client.post("/v1/sessions", {"engine": "python", "name": "asked for " + route}).json()["id"]
    try:
        return client.get("/v1/sessions/%s/%s" % (session, route)).status == 404
    finally:
        client.request("DELETE", "/v1/sessions/" + session)


def test_a_cell_is_branched_compared_and_rewound(make_server):
    server = make_server()
    if lacks(server, "checkpoints"):
        pytest.skip("this server has no branches")
    seen = visit("cell", server)
    assert "clamp.amp = 0.3" not in seen["scripts"][0] and "clamp.amp = 0.3" in seen["scripts"][1]
    # Until the second current the two are the same; with twice the current they are not.
    assert 110 <= float(seen["difference"][1].removeprefix("t = ")) < 111, seen["difference"]
    assert seen["rewound"].startswith("last100") and seen["branches"] == 1


def test_a_network_moves_and_its_branch_is_compared(make_server):
    server = make_server()
    if lacks(server, "stream"):
        pytest.skip("this server has no streams")
    seen = visit("branch", server)
    assert seen["counts"] > 1  # the raster grew while it ran
    assert seen["ink"][0] > 3000 and seen["plots"][:2] == ["Spikes · all", "Rate"]
    assert "First difference" in seen["numbers"] and seen["branches"] == 1
    assert float(re.search(r"First difference([\d.]+) ms", seen["numbers"]).group(1)) > 1000


def test_a_run_is_kept_shown_downloaded_and_run_again(server):
    if not has(server, "/v1/runs"):
        pytest.skip("this server keeps no runs")
    seen = visit("runs", server)
    assert "NEURON" in seen["details"]
    assert {name: value.rsplit(".", 1)[1] for name, value in seen["downloads"].items()} == {
        "npz": "npz", "csv": "zip", "cbor": "cbor", "RO-Crate": "zip"}
    assert "identical" in seen["verdict"] and len(seen["listed"]) >= 1


def test_files_are_cached_by_their_hash_and_the_policy_is_strict(server):
    client = server.client(token=None)
    index = client.get("/app/")
    assert index.status == 200 and index.headers["cache-control"] == "no-cache"
    assert "unsafe" not in index.headers["content-security-policy"] and "default-src 'self'" in index.headers["content-security-policy"]
    script = re.search(r'src="\./(assets/[^"]+\.js)"', index.text).group(1)
    answer = client.get("/app/" + script)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-security-policy"] == index.headers["content-security-policy"]
    assert client.get("/app/" + script, headers={"If-None-Match": answer.headers["etag"]}).status == 304
    missing = client.get("/app/assets/none.js")
    assert missing.status == 404 and "immutable" not in missing.headers.get("cache-control", "")
    assert client.get("/app").headers["location"] == "/app/"
    for path in ("/app/../CMakeLists.txt", "/app/%2e%2e/package.json", "/app/.stamp", "/app/..%2fpackage.json"):
        assert client.get(path).status in (400, 404), path
    assert client.post("/app/", {}).status == 405


def test_a_server_without_the_page_says_how_to_build_it(make_server, tmp_path):
    server = make_server(web=str(tmp_path / "nothing"))
    answer = server.client(token=None).get("/app/")
    assert answer.status == 200 and "make web" in answer.text
