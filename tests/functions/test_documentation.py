"""The examples of docs/functions.md work as written."""

import json
import re

import pytest

from conftest import ROOT, Session, wait_until
from functions.conftest import call, value
from myelin.client import Client

TEXT = (ROOT / "docs" / "functions.md").read_text()


@pytest.fixture
def examples(folder):
    for name, source in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL):
        folder.put(name, source)


def test_calls(examples, client):
    found = re.findall(r"<!-- call: (\S+) (\{.*?\})(?: -> (.*))? -->", TEXT)
    assert len(found) >= 2
    for name, parameters, wanted in found:
        data = value(client, name, **json.loads(parameters))
        assert not wanted or data == json.loads(wanted)


def test_the_cell_on_neuron(client):
    engine, source = re.search(r"<!-- session: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL).groups()
    session = Session(client, engine)
    session.client.timeout = 600  # a compiler runs
    here = value(client, "run_cell", amp=0.1)["frequency"]
    assert session.value(source + "frequency = frequency.tolist()", "frequency") == here
    session.delete()


def test_refusals(examples, client):
    for name, parameters, fields in re.findall(r"<!-- refused: (\S+) (\{.*?\}) -> (.*) -->", TEXT):
        answer = call(client, name, **json.loads(parameters))
        assert answer.status == 422 and [e["field"] for e in answer.json()["errors"]] == fields.split()


def test_pictures(examples, client):
    for name, kind in re.findall(r"<!-- picture: (\S+) (\S+) -->", TEXT):
        answer = client.post("/v1/functions/" + name, {}, headers={"Accept": kind})
        assert answer.status == 200 and answer.headers["content-type"] == kind


def test_what_is_broken(folder, client):
    for name, line, source in re.findall(r"<!-- broken: (\S+) (\d+) -->\n```python\n(.*?)```", TEXT, re.DOTALL):
        folder.put(name, source)
        problem = call(client, name.replace(".py", ".f")).json()
        assert problem["code"] == "broken" and problem["line"] == int(line)
        folder.remove(name)


def test_sweeps(examples, client, functions_server):
    (spec,) = re.findall(r"<!-- sweep: (\{.*\}) -->", TEXT)
    job = client.post("/v1/sweeps", json.loads(spec)).json()["id"]
    run = wait_until(lambda: (lambda o: o["state"] not in ("queued", "running") and o)(client.get("/v1/jobs/" + job).json()), "the sweep")
    assert {d["name"]: d["shape"] for d in run["datasets"]}["results.v"] == [3, 2, 100]
    (source,) = re.findall(r"<!-- session sweep -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    with Client(functions_server.url, functions_server.token) as there:
        space = {"client": there}
        exec(compile(source, "<docs/functions.md>", "exec"), space)
        assert list(space["job"].result()["results"]) == [499500, 999000, 1498500]
