"""What a session gets: engines, files that stay, the operator's mounts, compiled modules, an interpreter of the lab's own."""

import json
import os
import subprocess
import threading
import time

import pytest

from conftest import ENGINES_PYTHON, Session, wait_until


def native(server, method, path, body=None, token=None):
    client = server.client() if token is None else server.client(token)
    return client.request(method, path, json_body=body, headers={"Authorization": "Bearer " + (token or server.token)})


def start(server, engine, name):
    answer = native(server, "POST", "/v1/sessions", {"engine": engine, "name": name})
    assert answer.status == 201, answer
    return answer.json()["id"]


def run(server, identity, source, returns=None):
    answer = native(server, "POST", "/v1/sessions/%s/exec" % identity, {"source": source, "return": returns})
    assert answer.status == 200, answer
    return answer.json()["data"]


@pytest.mark.parametrize("engine, source, wanted", [
    ("nest", "import nest\na = nest.Create('iaf_psc_alpha', 3).tolist()", [1, 2, 3]),
    ("neuron", "from neuron import h\ns = h.Section(name='soma')\na = [s.nseg, s.L]", [1, 100.0]),
    ("jaxley", "import jaxley, jax.numpy\na = float(jax.numpy.arange(4).sum())", 6.0),
    ("python", "a = sum(range(5))", 10),
])
def test_every_engine_answers(server, engine, source, wanted):
    identity = start(server, engine, "engine-" + engine)
    assert run(server, identity, source, "a") == wanted
    assert native(server, "DELETE", "/v1/sessions/" + identity).status == 204


def test_globals_persist_in_a_native_session_unless_fresh(server):
    identity = start(server, "python", "notebook")
    run(server, identity, "a = 1")
    assert run(server, identity, "a += 1", "a") == 2
    answer = native(server, "POST", "/v1/sessions/%s/exec" % identity, {"source": "b = 'a' in globals()", "return": "b", "fresh": True})
    assert answer.json()["data"] is False
    native(server, "DELETE", "/v1/sessions/" + identity)


@pytest.mark.parametrize("preload", ["", "import numpy"])
def test_files_of_a_session_come_as_their_bytes(new_session, preload):
    session = new_session("python")
    assert session.exec(preload).status == 200
    for size in (0, 2, 64, 65, 300_000):
        data = bytes(i % 251 for i in range(size))
        assert session.client.request("PUT", session.path + "/files/f.bin", body=data).status == 201
        answer = session.client.get(session.path + "/files/f.bin")
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/octet-stream", data)
    assert session.exec("open('list.json', 'w').write('{\"bytes\":[1,2]}')").status == 200
    assert session.client.get(session.path + "/files/list.json").body == b'{"bytes":[1,2]}'
    listing = session.client.get(session.path + "/files/").json()
    assert [(e["name"], e["bytes"]) for e in listing["entries"] if e["type"] == "file"] == [("f.bin", 300_000), ("list.json", 15)]


def test_work_is_kept_and_shared_and_the_rest_is_not(server):
    first, second = start(server, "python", "w1"), start(server, "python", "w2")
    run(server, first, "import os\nopen('work/kept', 'w').write('x' * 10)\nopen('/tmp/gone', 'w').write('y')\nopen('gone', 'w').write('z')")
    assert run(server, second, "import os\na = [open('work/kept').read(), os.path.exists('/tmp/gone'), os.path.exists('gone')]", "a") == ["x" * 10, False, False]
    native(server, "DELETE", "/v1/sessions/" + first)
    third = start(server, "nest", "w3")
    assert run(server, third, "a = len(open('work/kept').read())", "a") == 10
    for identity in (second, third):
        native(server, "DELETE", "/v1/sessions/" + identity)


def test_mounts_of_the_operator(make_server, tmp_path):
    shown, writable = tmp_path / "shown", tmp_path / "writable"
    for folder in (shown, writable):
        folder.mkdir()
        folder.chmod(0o777)
    tmp_path.chmod(0o755)
    (shown / "data").write_text("42")
    server = make_server(mount=[{"path": str(shown), "target": "/data/shown", "mode": "ro"},
                                {"path": str(writable), "target": "/data/writable", "mode": "rw", "engines": ["python"]},
                                {"path": str(shown), "target": "/data/hers", "mode": "ro", "users": ["anna"]}])
    if server.client().get("/v1/health").json()["isolation"] == "reduced":
        pytest.skip("no mounts without namespaces")
    source = """
import os
a = [open('/data/shown/data').read()]
try:
    open('/data/shown/x', 'w'); a.append('written')
except OSError as error:
    a.append(error.errno)
try:
    open('/data/writable/x', 'w').write('1'); a.append('written')
except OSError as error:
    a.append(error.errno)
"""
    assert run(server, start(server, "python", "m"), source, "a") == ["42", 30, "written"]
    assert (writable / "x").read_text() == "1"
    assert run(server, start(server, "nest", "m"), source, "a")[:2] == ["42", 30]
    sees = {}
    for name in ("anna", "ben"):
        client = server.client(server.client().post("/v1/tokens", {"name": name}).json()["token"])
        sees[name] = Session(client).value("import os\na = [os.path.exists('/data/%s/data' % at) for at in ('shown', 'hers')]", "a")
    assert sees == {"anna": [True, True], "ben": [True, False]}


MODULE = r'''
#include "nest_extension_interface.h"
#include "iaf_psc_alpha.h"
namespace hello {
class Neuron : public nest::iaf_psc_alpha {
 public:
  Neuron() = default;
  Neuron(const Neuron& other) : nest::iaf_psc_alpha(other) {}
};
class Module : public nest::NESTExtensionInterface {
 public:
  void initialize() override { nest::register_node_model<Neuron>("hello_neuron"); }
};
}  // namespace hello
hello::Module hellomodule_LTX_module;
'''

BUILD = r'''
import os, subprocess, nest
open("hello.cpp", "w").write(MODULE)
library = os.path.expanduser("~/work") + "/lib"
os.makedirs(library, exist_ok=True)
built = subprocess.run(["g++", "-std=c++20", "-O1", "-fopenmp", "-shared", "-fPIC",
                        "-D_GLIBCXX_USE_CXX11_ABI=0",  # as NEST's wheel was built
                        "-I",
                        os.path.join(os.path.dirname(nest.__file__), "include", "nest"), "hello.cpp",
                        "-o", library + "/hellomodule.so"], capture_output=True, text=True)
if built.returncode:
    raise RuntimeError(built.stderr[-2000:])
'''


def test_a_compiled_extension_module_installs(server):
    client = server.client().kernel("module")
    built = client.request("POST", "/exec", json_body={"source": "MODULE = %r\n%s" % (MODULE, BUILD)})
    assert built.status == 200, built
    client.call("ResetKernel")
    client.call("Install", "hellomodule")
    assert client.call("Create", "hello_neuron", 2) == [1, 2]
    # compiled once, it is there for the user's other sessions
    other = server.client().kernel("module-2")
    other.call("ResetKernel")
    other.call("Install", "hellomodule")
    assert other.call("Create", "hello_neuron") == [1]


@pytest.fixture
def own_environment(tmp_path):
    """An interpreter of the lab's own, in a folder that only its owner may enter, with a module that starts a thread."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    environment = home / "env"
    subprocess.run([os.path.realpath(ENGINES_PYTHON), "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "thread_at_import.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\nanswer = 42\n")
    (site / "of_the_lab.py").write_text("answer = 43\n")
    return environment / "bin" / "python"


def test_an_environment_below_a_private_home(make_server, own_environment):
    if os.geteuid() != 0:
        own_environment.parent.parent.parent.chmod(0o755)
    server = make_server(engine={"python": {"python": str(own_environment), "preload": ["of_the_lab"]}})
    assert run(server, start(server, "python", "own"), "import of_the_lab\na = of_the_lab.answer", "a") == 43


def test_an_engine_that_starts_a_thread_starts_cold(make_server, own_environment):
    server = make_server(engine={"python": {"python": str(own_environment), "preload": ["thread_at_import"]}})
    for name in ("one", "two"):
        identity = start(server, "python", name)
        assert run(server, identity, "import thread_at_import, threading\na = [thread_at_import.answer, threading.active_count()]", "a") == [42, 2]


def test_a_session_that_ended_says_why(server):
    identity = start(server, "python", "mortal")
    answer = native(server, "POST", "/v1/sessions/%s/exec" % identity, {"source": "import os\nprint('last words')\nos._exit(3)"})
    assert answer.status == 410 and "exited with code 3" in answer.json()["detail"], answer
    again = native(server, "POST", "/v1/sessions/%s/exec" % identity, {"source": "1"})
    assert again.status == 410 and "last words" in json.dumps(again.json()), again
    status = native(server, "GET", "/v1/sessions/" + identity).json()
    assert status["state"] == "ended" and status["cause"]["code"] == "exited", status


def test_short_memory_ends_the_session_that_was_idle_longest(make_server):
    server = make_server(limits={"memory_all": "1000MiB", "memory_per_session": "600MiB"})
    fill = "a = b'x' * (%d << 20)"
    own = server.client()
    assert own.request("POST", "/exec", json_body={"source": "import nest"}).status == 200  # the token's own kernel, idle longest of all
    first, second = start(server, "python", "p1"), start(server, "python", "p2")
    run(server, first, fill % 400)
    run(server, second, fill % 400)
    third = start(server, "python", "p3")
    run(server, third, fill % 160)
    wait_until(lambda: native(server, "GET", "/v1/sessions/" + first).json()["state"] == "ended", "the end of the idle session")
    cause = native(server, "GET", "/v1/sessions/" + first).json()["cause"]
    assert cause["code"] == "pressure" and "memory was short" in cause["text"], cause
    assert own.request("POST", "/exec", json_body={"source": "a = 1", "return": "a"}).json() == {"data": 1}
    for identity in (second, third):
        assert run(server, identity, "b = len(a)", "b") > 0


def test_the_limit_that_ended_a_session_is_named(make_server):
    server = make_server(limits={"memory_all": "420MiB", "memory_per_session": "300MiB"})
    fill = "import time\na = bytearray(%d << 20)\nfor i in range(0, len(a), 4096): a[i] = 1\nend = time.time() + %d\nwhile time.time() < end: time.sleep(0.05)"
    both = [start(server, "python", name) for name in ("m1", "m2")]
    threads = [threading.Thread(target=native, args=(server, "POST", "/v1/sessions/%s/exec" % one, {"source": fill % (230, 600)})) for one in both]
    for thread in threads:
        thread.start()

    def ended():
        return [s for s in (native(server, "GET", "/v1/sessions/" + one).json() for one in both) if s["state"] == "ended"]

    wait_until(ended, "the end of one")
    for one in ended():
        assert one["cause"]["code"] == "memory" and "all sessions together, 420 MiB" in one["cause"]["text"], one
    for one in both:
        native(server, "DELETE", "/v1/sessions/" + one)
    for thread in threads:
        thread.join()
    wait_until(lambda: len(ended()) == 2, "the end of both")
    greedy = start(server, "python", "greedy")
    assert native(server, "POST", "/v1/sessions/%s/exec" % greedy, {"source": fill % (400, 1)}).status == 410
    cause = native(server, "GET", "/v1/sessions/" + greedy).json()["cause"]
    assert cause["code"] == "memory" and "its memory limit of 300 MiB" in cause["text"], cause


def test_other_sessions_end_when_idle_and_a_token_s_own_kernel_does_not(make_server):
    server = make_server(limits={"idle_s": 1})
    own = server.client()
    own.call("Create", "iaf_psc_alpha", 3)
    identity = start(server, "python", "short")
    wait_until(lambda: native(server, "GET", "/v1/sessions/" + identity).json()["state"] == "ended", "the end of the idle session")
    assert native(server, "GET", "/v1/sessions/" + identity).json()["cause"]["code"] == "idle"
    assert own.get("/api/network_size").json() == 3


def test_a_header_names_the_kernel_too(server):
    client = server.client()
    for name, count in (("h1", 1), ("h2", 2)):
        headers = {"Myelin-Kernel": name, "Content-Type": "application/json"}
        answer = client.request("POST", "/api/Create", json_body=["iaf_psc_alpha", count], headers=headers)
        assert answer.json() == list(range(1, count + 1)), answer
    assert client.kernel("h2").get("/api/network_size").json() == 2
    assert client.request("GET", "/api/network_size", headers={"Myelin-Kernel": "../x"}).status == 400


def test_names_can_be_read(new_session):
    session = new_session()
    bad = ["x" * 65, "é" * 65, "a\nb", "a\x00", "a\x1b[1m", "a\x7f", "a\u0085b"]
    for name in bad:
        for path, content in (("/v1/sessions", {"engine": "python", "name": name}), (session.path + "/branch", {"names": [name]}), (session.path + "/checkpoints", {"name": name})):
            answer = session.client.post(path, content)
            assert answer.status == 400 and answer.json()["code"] == "bad_request" and "64" in answer.json()["detail"], (path, name, answer)
    good = ["é" * 60 + "-%d" % (time.monotonic_ns() % 1000), "ein Name / 名前 %d" % time.monotonic_ns()]
    for name in good:
        made = Session(session.client, "python", name)
        assert made.status().json()["name"] == name
        made.delete()


def test_too_many_kernels_are_told_as_what_they_are(make_server):
    client = make_server(limits={"max_sessions_per_user": 1}).client()
    assert client.get("/api/network_size").json() == 0
    answer = client.kernel("more").get("/api/network_size")
    assert answer.status == 400 and answer.json()["message"].startswith("TooManySessions: you have 1 session"), answer


def test_progress_of_a_running_simulation(server):
    import threading

    client = server.client().kernel("progress")
    client.call("Create", "iaf_psc_alpha", 2000)
    caller = threading.Thread(target=lambda: client.request("POST", "/api/Simulate", json_body=[1e7]))
    caller.start()
    try:
        def seen():
            busy = [s for s in native(server, "GET", "/v1/sessions").json()["sessions"] if s["name"] == "progress" and s["state"] == "busy"]
            return busy[0] if busy and busy[0]["progress"].get("time_ms", 0) > 0 else None

        wait_until(lambda: seen() is not None, "progress")
        status = seen()
        assert 0 < status["progress"]["done"] < 1 and status["progress"]["of_ms"] == 1e7, status
        assert native(server, "POST", "/v1/sessions/%s/interrupt" % status["id"]).status == 202
    finally:
        caller.join(60)
    assert client.get("/api/network_size").json() == 2000
