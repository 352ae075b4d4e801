"""Engines of one's own: added, tried in the sandbox, taken up by a running server, branched, removed."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from conftest import BINARY, ENGINES_PYTHON, ROOT, Session, wait_until

REQUIREMENTS = ROOT / "requirements" / "brian2.txt"

NETWORK = """
from brian2 import *
prefs.codegen.target = 'numpy'
seed(7)
G = NeuronGroup(60, 'dv/dt = (1.1 - v) / (10*ms) + 0.3*xi*(10*ms)**-0.5 : 1', threshold='v > 1', reset='v = 0', method='euler')
G.v = 'rand()'
S = Synapses(G, G, on_pre='v_post += 0.02')
S.connect(p=0.2)
M = SpikeMonitor(G)
net = Network(G, S, M)
net.run(30*ms)
"""
GO_ON = """
net.run(30*ms)
r = {'i': list(map(int, M.i)), 't': list(map(float, M.t/ms)), 'random': float(numpy.random.rand())}
"""


def make_environment(path, requirements=None):
    """A virtual environment; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", *([] if requirements else ["--without-pip"]), str(path)], check=True, capture_output=True)
    python = path / "bin" / "python"
    if requirements:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(path, ignore_errors=True)
            pytest.skip("the packages of %s can't be installed: %s" % (requirements.name, done.stderr.strip()[-400:]))
    return python


def give_module(python, name, text):
    """A module in the environment of this interpreter."""
    (folder,) = (python.parent.parent / "lib").glob("python3*/site-packages")
    (folder / (name + ".py")).write_text(text)
    return folder


@pytest.fixture(scope="module")
def brian_python():
    """Kept beside the build between runs: installing it takes longer than all tests here."""
    mark = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    path = BINARY.parent / ("test-brian2-" + mark)
    if not (path / "complete").exists():
        shutil.rmtree(path, ignore_errors=True)
        make_environment(path, REQUIREMENTS)
        (path / "complete").touch()
    return path / "bin" / "python"


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory):
    """An environment without packages."""
    return make_environment(tmp_path_factory.mktemp("engines") / "plain")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def myelin(*arguments):
    done = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout + done.stderr


def add(data, name, python, *options):
    return myelin("engine", "add", name, "--python", python, "--data", data, *options)


def works(data, name, python, *options):
    status, text = add(data, name, python, *options)
    assert status == 0, text
    return text


def engines(client):
    return {engine["name"]: engine for engine in client.get("/v1/engines").json()["engines"]}


def branch(session, count):
    answer = session.client.post(session.path + "/branch", {"count": count})
    assert answer.status == 201, answer
    out = []
    for one in answer.json()["sessions"]:
        copy = Session.__new__(Session)
        copy.client, copy.id, copy.path = session.client, one["id"], "/v1/sessions/" + one["id"]
        out.append(copy)
    return out


def test_brian2_is_added_to_a_running_server_and_branches(make_server, brian_python):
    server = make_server()
    client = server.client()
    text = works(server.data, "brian2", brian_python, "--preload", "brian2")
    assert "brian2 2." in text, text
    assert "branches     one went on" in text, text
    wait_until(lambda: "brian2" in engines(client), "the engine in the running server")

    plain, parent = Session(client, "brian2"), Session(client, "brian2")
    plain.value(NETWORK, None)
    wanted = plain.value(GO_ON, "r")
    assert len(wanted["i"]) > 50
    parent.value(NETWORK, None)
    copies = branch(parent, 2)
    for session in [*copies, *branch(copies[0], 1), parent]:
        assert session.value(GO_ON, "r") == wanted

    entry = engines(client)["brian2"]
    assert entry["added"] and entry["ready"] and entry["branches"] and entry["preload"] == ["brian2"], entry
    assert entry["python"] == str(brian_python) and entry["version"] == entry["versions"]["brian2"], entry
    assert not engines(client)["nest"]["added"]
    status, text = myelin("engine", "list", "--data", server.data)
    assert status == 0 and "brian2" in text, text

    status, text = myelin("engine", "remove", "brian2", "--data", server.data)
    assert status == 0, text
    wait_until(lambda: "brian2" not in engines(client), "the engine gone from the running server")
    answer = client.post("/v1/sessions", {"engine": "brian2"})
    assert answer.status == 404 and "brian2" not in answer.json()["detail"].split("there are:")[1], answer
    assert parent.value("r = M.num_spikes", "r") > 0  # a session that there was goes on


def test_brian2_compiles_into_the_users_cache(make_server, data, brian_python):
    if not shutil.which("g++"):
        pytest.skip("there is no g++")
    include = subprocess.run([brian_python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"], capture_output=True, text=True).stdout.strip()
    if not os.path.exists(include + "/Python.h"):
        pytest.skip("there is no %s/Python.h" % include)
    works(data, "brian2", brian_python, "--preload", "brian2")
    session = Session(make_server(data=data).client(), "brian2")
    source = NETWORK.replace("'numpy'", "'cython'") + "import glob, os\nr = [int(M.num_spikes), len(glob.glob(os.path.expanduser('~/work') + '/.cache/**/*.so', recursive=True))]"
    session.client.timeout = 600  # a compiler runs several times
    spikes, compiled = session.value(source, "r")
    assert spikes > 0 and compiled > 0


def test_an_engine_of_the_settings_and_one_of_a_file(make_server, data, plain_python):
    give_module(plain_python, "lab_module", "import os\nPID = os.getpid()\n")
    works(data, "from-file", plain_python, "--preload", "lab_module", "--env", "LAB=a b")
    settings = {"from-settings": {"python": str(plain_python), "preload": ["lab_module"]}, "from-file": {"limits": {"files": 77}}}
    client = make_server(data=data, engine=settings).client()
    for name in settings:
        session = Session(client, name)
        assert session.value("import os, sys, lab_module\nr = [lab_module.PID != os.getpid(), sys.prefix]", "r") == [True, str(plain_python.parent.parent)]
    assert session.value("import resource\nr = [os.environ.get('LAB'), resource.getrlimit(resource.RLIMIT_NOFILE)[0]]", "r") == ["a b", 77]
    assert all(engines(client)[name]["added"] for name in settings)


def test_a_nest_of_ones_own_has_nests_adapter(make_server, data):
    text = works(data, "my-nest", ENGINES_PYTHON, "--kind", "nest")
    assert "branches     one went on" in text, text
    client = make_server(data=data).client()
    session = Session(client, "my-nest")
    assert session.value("n = nest.Create('iaf_psc_alpha', 3)\nr = n.tolist()", "r") == [1, 2, 3]
    (copy,) = branch(session, 1)
    answer = copy.client.post(copy.path + "/call", {"function": "GetKernelStatus"})
    assert answer.status == 200 and answer.json()["data"]["network_size"] == 3, answer
    assert engines(client)["my-nest"]["version"] == engines(client)["my-nest"]["versions"]["nest"]


def test_an_environment_below_a_private_home(make_server, data, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    python = make_environment(home / "env")
    works(data, "mine", python)
    assert Session(make_server(data=data).client(), "mine").value("import sys\nr = sys.executable", "r") == str(python)


def test_without_namespaces(data_root):
    # as in test_reduced.py: sessions of root's server need the real paths
    home = data_root / "engines-reduced"
    home.mkdir(mode=0o755)
    program = home / "sandbox"
    program.write_text('#!/bin/sh\n[ "$1" = probe ] && exit 1\nexec "%s" "$@"\n' % (BINARY.parent / "myelin-sandbox"))
    program.chmod(0o755)
    config = home / "test.toml"
    config.write_text('sandbox_binary = "%s"\n' % program)
    python = make_environment(home / "folder" / "env")
    text = works(home / "data", "lab", python, "--config", config)
    assert "this host can't isolate it" in text and "branches     one went on" in text, text
    if os.geteuid() == 0:
        (home / "folder").chmod(0o700)
        status, text = add(home / "data", "closed", python, "--config", config)
        assert status == 1 and "the folder %s can't be entered by sessions" % (home / "folder") in text, text


def test_what_an_import_leaves_open_is_not_mistaken_for_a_sessions_file(make_server, data, plain_python):
    give_module(plain_python, "keeps_a_log", "import tempfile\nLOG = tempfile.NamedTemporaryFile('w', delete=False)\n")
    works(data, "logging", plain_python, "--preload", "keeps_a_log")
    session = Session(make_server(data=data).client(), "logging")
    source = """
import keeps_a_log
mine = [open('mine-%d' % n, 'w') for n in range(8)]
keeps_a_log.LOG.write('from the module')
keeps_a_log.LOG.flush()
for file in mine:
    file.write('x')
    file.close()
r = [open('mine-%d' % n).read() for n in range(8)]
"""
    assert session.value(source, "r") == ["x"] * 8


def test_a_preload_that_starts_a_thread_makes_sessions_cold(make_server, data, plain_python):
    give_module(plain_python, "innocent", "import json, starts_a_thread, decimal\n")
    give_module(plain_python, "starts_a_thread", "import threading\nT = threading.Thread(target=threading.Event().wait, daemon=True)\nT.start()\n")
    text = works(data, "threads", plain_python, "--preload", "innocent")
    assert "--   threads      starts_a_thread starts a thread when it is imported" in text, text
    assert "--   branches     none" in text, text
    client = make_server(data=data).client()
    session = Session(client, "threads")
    assert session.value("import sys, starts_a_thread\nr = ['innocent' in sys.modules, starts_a_thread.T.is_alive()]", "r") == [True, True]
    answer = client.post(session.path + "/branch", {})
    assert answer.status == 409, answer
    entry = engines(client)["threads"]
    assert not entry["branches"] and "starts_a_thread" in entry["why_not"], entry


def test_an_openmp_that_cannot_be_paused_is_named(data, tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc")
    python = make_environment(tmp_path / "env")
    folder = give_module(python, "has_openmp", "import ctypes, os, sys\nfor name in os.environ['LIBRARIES'].split(','):\n    ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'old.libs', name))\n")
    (folder / "old.libs").mkdir()
    for name in ("libiomp5.so", "libgomp-1a2b.so.1"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / "old.libs" / name], input=b"int old(void) { return 1; }", check=True)
    text = works(data, "intel", python, "--preload", "has_openmp", "--env", "LIBRARIES=libiomp5.so")
    assert "--   OpenMP" in text and "old.libs/libiomp5.so can't pause its threads" in text, text
    text = works(data, "gnu", python, "--preload", "has_openmp", "--env", "LIBRARIES=libgomp-1a2b.so.1")
    if list(pathlib.Path("/usr/lib").glob("*/libgomp.so.1")):  # the system's stands in front of it
        assert "OpenMP" not in text, text
    else:
        assert "libgomp-1a2b.so.1 can't pause" in text, text


@pytest.mark.parametrize("name, options, said", [
    ("a/b", [], "can't be an engine's name"),
    (".hidden", [], "can't be an engine's name"),
    ("nest", [], "came with the server"),
    ("lab", ["--kind", "brian"], "--kind is nest, neuron, jaxley or python"),
    ("lab", ["--preload", "a b"], "--preload takes modules"),
    ("lab", ["--env", "LAB"], "--env takes NAME=VALUE"),
    ("lab", ["--preload", "no_such_module"], "No module named 'no_such_module'"),
    ("lab", ["--preload", "fails"], "RuntimeError: not on this machine"),
    ("lab", ["--preload", "ends"], "SystemExit"),
    ("lab", ["--kind", "nest"], "No module named"),
])
def test_what_is_refused_says_why(data, plain_python, name, options, said):
    give_module(plain_python, "fails", "raise RuntimeError('not on this machine')\n")
    give_module(plain_python, "ends", "raise SystemExit(3)\n")
    status, text = add(data, name, plain_python, *options)
    assert status in (1, 2) and said in text, text
    assert not list(data.glob("engines/*")) and not list(data.glob(".trial*"))


def test_an_interpreter_that_is_none(data, tmp_path, plain_python):
    shim = tmp_path / "shim"
    shim.write_text("#!/bin/sh\nexec %s \"$@\"\n" % plain_python)
    shim.chmod(0o755)
    for python, said in ((tmp_path / "none", "there is no"), (tmp_path, "is a folder"), (shim, "sys.executable"), ("/bin/true", "is it a Python interpreter")):
        status, text = add(data, "lab", python)
        assert status == 1 and said.lower() in text.lower(), text


def test_force_keeps_what_does_not_work(make_server, data, tmp_path, plain_python):
    status, text = add(data, "lab", plain_python, "--preload", "comes_later", "--force")
    assert status == 0 and "does not work yet" in text, text
    status, text = add(data, "lab", plain_python)
    assert status == 2 and "myelin engine remove lab" in text, text
    client = make_server(data=data).client()
    session = Session(client, "lab")
    answer = session.exec("r = 1", "r")
    assert answer.status == 503 and "comes_later" in answer.json()["detail"], answer
    give_module(plain_python, "comes_later", "R = 2\n")
    assert Session(client, "lab").value("import comes_later\nr = comes_later.R", "r") == 2
    assert myelin("engine", "remove", "lab", "--data", data)[0] == 0
    status, text = myelin("engine", "remove", "lab", "--data", data)
    assert status == 1 and "there is no engine lab" in text, text
    assert myelin("engine", "remove", "nest", "--data", data)[0] == 2


def test_a_broken_file_stops_no_running_server(make_server, plain_python):
    server = make_server()
    client = server.client()
    (server.data / "engines").mkdir()
    (server.data / "engines" / "lab.toml").write_text("pyhton = '%s'\n" % plain_python)
    wait_until(lambda: "lab.toml:1: unknown key \"pyhton\"; did you mean \"python\"" in server.log_text(), "the mistake in the log")
    (server.data / "engines" / "lab.toml").unlink()
    (server.data / "engines" / "lab.toml").write_text("python = '%s'\n" % plain_python)
    wait_until(lambda: "lab" in engines(client), "the engine, once its file is right")
    assert Session(client, "lab").value("r = 1 + 1", "r") == 2
