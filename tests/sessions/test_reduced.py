"""A host without namespaces, played by a sandbox program whose probe fails: the server says so, and refuses what it can't protect."""

import os

import pytest

from conftest import BINARY, Session, wait_until
from test_sessions import native, run, start
from test_streams import Loop


@pytest.fixture
def no_namespaces(tmp_path, data_root):
    # sessions of root's server have a uid of their own, and without namespaces use the real paths
    for folder in [data_root, tmp_path, *tmp_path.parents]:
        if str(folder) not in ("/", "/tmp") and os.stat(folder).st_uid == os.geteuid():
            os.chmod(folder, os.stat(folder).st_mode | 0o011)
    program = tmp_path / "sandbox"
    program.write_text('#!/bin/sh\n[ "$1" = probe ] && { echo "user-namespace 1 Operation not permitted"; exit 1; }\nexec "%s" "$@"\n'
                       % os.path.join(os.path.dirname(BINARY), "myelin-sandbox"))
    program.chmod(0o755)
    return str(program)


def token_of(server, name):
    import subprocess

    return subprocess.run([str(BINARY), "token", "add", name, "--data", str(server.data)], capture_output=True, text=True, check=True).stdout.strip()


def test_one_user_and_no_scripts(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces)
    client = server.client()
    assert client.get("/v1/health").json()["isolation"] == "reduced"
    assert "REDUCED" in server.log_text()
    assert client.request("POST", "/exec", json_body={"source": "a=1"}).status == 403
    assert client.call("Create", "iaf_psc_alpha", 2) == [1, 2]
    other = server.client(token_of(server, "alice"))
    refused = other.request("POST", "/api/Create", json_body=["iaf_psc_alpha"])
    assert refused.status == 400 and "doctor" in refused.text, refused


def test_calls_are_no_way_around(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces)
    session = Session(server.client(), "nest")
    loop = Loop(session)
    for name in ("random._os.system", "time.sleep", "nest.Create", "nest._nest.__class__", "__builtins__.eval"):
        refused = session.client.post(session.path + "/call", {"function": name, "args": ["id"]})
        assert refused.status == 400 and refused.json()["class"] == "AttributeError", (name, refused)
        assert loop.ask({"call": name, "args": ["id"]})["error"]["class"] == "AttributeError", name
    assert session.client.post(session.path + "/call", {"function": "Create", "args": ["iaf_psc_alpha", 2]}).json()["data"] == [1, 2]
    assert loop.ask({"call": "Create", "args": ["iaf_psc_alpha"]}) == {"data": [3]}
    assert loop.ask({"get": [{"nodes": [1], "keys": ["V_m"]}]})["get"] == [{"V_m": [-70.0]}]
    plain = Session(server.client(), "python")
    refused = plain.client.post(plain.path + "/call", {"function": "print", "args": ["x"]})
    assert refused.status == 400 and "turned off" in refused.json()["detail"], refused


def test_allowed_by_the_configuration(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces, isolation="reduced", exec=True)
    identity = start(server, "python", "r")
    assert run(server, identity, "import os\na = [1, os.getcwd() != '/']", "a") == [1, True]
    assert server.client(token_of(server, "alice")).call("Create", "iaf_psc_alpha") == [1]


def test_a_branch_keeps_its_files_when_its_session_ends(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces, isolation="reduced", exec=True)
    identity = start(server, "python", "parent")
    folder = server.data / "scratch" / identity
    run(server, identity, "open('kept', 'w').write('it')")
    made = native(server, "POST", "/v1/sessions/%s/branch" % identity, {})
    assert made.status == 201, made
    branch = made.json()["sessions"][0]["id"]
    native(server, "DELETE", "/v1/sessions/" + identity)
    wait_until(lambda: native(server, "GET", "/v1/sessions/" + identity).json()["state"] == "ended", "the parent's end")
    assert run(server, branch, "a = open('kept').read()", "a") == "it"
    native(server, "POST", "/v1/sessions/%s/checkpoints" % branch, {})
    answer = native(server, "POST", "/v1/sessions/%s/exec" % branch, {"source": "import os\nos._exit(3)"})
    assert answer.status == 410, answer
    (left,) = native(server, "GET", "/v1/sessions/%s/checkpoints" % branch).json()["checkpoints"]
    again = native(server, "POST", "/v1/sessions/%s/rewind" % branch, {"checkpoint": left["id"]}).json()["id"]
    assert run(server, again, "a = open('kept').read()", "a") == "it" and folder.exists()
    native(server, "DELETE", "/v1/sessions/" + again)
    wait_until(lambda: not folder.exists(), "the end of the folder")


def test_functions(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces, isolation="reduced", exec=True)
    (server.data / "functions").mkdir()
    (server.data / "functions" / "plain.py").write_text("import os\ndef f(x): return [x, os.listdir(os.path.expanduser('~'))]\n")
    for x in (1, 2):
        answer = server.client().post("/v1/functions/plain.f", {"parameters": {"x": x}})
        assert answer.status == 200 and answer.json()["data"] == [x, []], answer


def test_functions_without_scripts(make_server, no_namespaces):
    server = make_server(sandbox_binary=no_namespaces)
    (server.data / "functions").mkdir()
    (server.data / "functions" / "plain.py").write_text("def f(x): return x\n")
    # What the server computes itself needs no sandbox.
    assert [f["id"] for f in server.client().get("/v1/functions").json()["functions"]] == ["myelin.run_cell"]
    assert server.client().post("/v1/functions/run_cell", {"parameters": {"tstop": 10}}).status == 200
    assert server.client().post("/v1/functions/plain.f", {"parameters": {"x": 1}}).status == 404
    assert server.client().post("/v1/packages/mine/check", {}).status == 403
