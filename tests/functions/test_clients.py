"""Functions from Python and from the command line: with signature, help and errors of their own."""

import inspect
import json
import os
import subprocess

import pytest

from conftest import BINARY, PATIENCE_S
from myelin.client import BrokenError, CallFailedError, Client, InvalidError, NotFoundError

CELLS = """
    from typing import Annotated, Literal
    from myelin.function import Help, Picture, Range, Unit, function

    @function(title="A cell", results={"v": "mV"}, plots=[Picture("plot")])
    def respond(n: int, amp: Annotated[float, Unit("nA"), Range(-1, 1), Help("injected current")] = 0.1, label: str = "x", loud: bool = False,
                mode: Literal["a", "b"] = "a"):
        \"\"\"Answers.\"\"\"
        if loud: print("hello")
        return {"v": [amp] * n, "label": label, "mode": mode}

    def plain(a, b=[1]): return [a, b]
    def draw(): return b"\\x89PNG\\r\\n\\x1a\\n" + b"0" * 10
    def fail(): raise KeyError("k")
"""


@pytest.fixture
def there(folder, functions_server):
    folder.put("clients.py", CELLS)
    with Client(functions_server.url, functions_server.token) as client:
        yield client


def test_functions_are_python_functions(there):
    f = there.functions.respond
    assert str(inspect.signature(f)) == "(n, amp=0.1, label='x', loud=False, mode='a')"
    assert "A cell" in f.__doc__ and "amp, number, in nA, from -1 to 1: injected current" in f.__doc__ and "v, in mV" in f.__doc__
    assert f(2, amp=0.5) == {"v": [0.5, 0.5], "label": "x", "mode": "a"} == there.functions.clients.respond(n=2, amp=0.5)
    assert there.functions["clients.plain"](a=1, b={"c": None}) == [1, {"c": None}]
    with pytest.raises(TypeError):
        f()
    with pytest.raises(TypeError):
        f(1, zz=3)
    with pytest.raises(InvalidError) as told:
        f(1, amp=7)
    assert told.value.errors == [{"field": "amp", "message": "must be between -1 and 1, not 7"}]
    with pytest.raises(CallFailedError):
        there.functions.fail()
    with pytest.raises(NotFoundError):
        there.functions.nothing
    assert "respond" in dir(there.functions) and "clients" in dir(there.functions) and not hasattr(there.functions, "_repr_html_")


def test_calls_with_settings_of_their_own(there):
    f = there.functions.respond
    result = f.call({"n": 1, "loud": True}, keep=True, title="kept")
    assert result.stdout == "hello\n" and result.run.info["title"] == "kept" and result["v"] == [0.1]
    assert f.submit({"n": 3}).result()["v"] == [0.1] * 3
    assert there.functions.draw.picture().startswith(b"\x89PNG")
    sweep = f.sweep(grid={"amp": [0.1, 0.2]}, parameters={"n": 100}).result()
    assert sweep["results"]["v"].shape == (2, 100) and sweep["axes"]["amp"] == [0.1, 0.2]
    with there.session("python") as session:
        session.exec("a = 1")
        assert list(there.sweep(session, points=[{"x": 1}, {"x": 2}], source="b = a + x", returns="b").result()["results"]) == [2, 3]


def test_broken_packages(there, folder):
    folder.put("clients_broken.py", "def f(:\n")
    with pytest.raises(BrokenError) as told:
        there.functions["clients_broken.f"]
    assert told.value.line == 1 and told.value.problem["file"] == "clients_broken.py"
    assert [b["package"] for b in there.functions.broken() if b["package"].startswith("clients")] == ["clients_broken"]
    folder.remove("clients_broken.py")


@pytest.fixture
def line(there, functions_server, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MYELIN_")}
    environment.update(HOME=str(tmp_path), MYELIN_URL=functions_server.url, MYELIN_TOKEN=functions_server.token)

    def run(*words, status=0):
        done = subprocess.run([str(BINARY), "functions", *words], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=PATIENCE_S)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    return run


def test_the_command_line_lists_and_helps(line, folder):
    listed = line().stdout
    assert "clients.respond(n, amp=0.1, label='x', loud=False, mode='a')" in listed and "A cell" in listed
    assert any(f["id"] == "clients.plain" for f in json.loads(line("--json").stdout)["functions"])
    told = line("respond", "--help").stdout
    for words in ("--amp", "number from -1 to 1, in nA", "injected current", "--n", "needed", "Answers.", 'one of "a" "b"'):
        assert words in told, told


def test_the_command_line_calls(line, tmp_path):
    assert json.loads(line("respond", "--n", "2", "--amp=-0.5").stdout) == {"label": "x", "mode": "a", "v": [-0.5, -0.5]}
    done = line("respond", "n=1", "--label", "5", "--loud")
    assert json.loads(done.stdout)["label"] == "5" and done.stderr == "hello\n"
    assert json.loads(line("plain", "a=text", 'b={"c": [1]}').stdout) == ["text", {"c": [1]}]
    assert "kept as run r_" in line("--keep", "--title", "t", "respond", "--n", "1").stderr
    assert line("--async", "respond", "--n", "1").stdout.startswith("r_")
    line("-o", "out.png", "draw")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    line("-o", "out.npz", "respond", "--n", "100")
    assert (tmp_path / "out.npz").read_bytes().startswith(b"PK")


def test_the_command_line_says_what_is_wrong(line):
    assert "has no parameter 'zz'" in line("respond", "--zz", "1", status=2).stderr
    assert "needs a value" in line("respond", "--n", status=2).stderr
    assert "amp must be between -1 and 1, not 7" in line("respond", "--n", "1", "--amp", "7", status=4).stderr
    assert "n is missing" in line("respond", status=4).stderr
    assert "KeyError" in line("fail", status=1).stderr
    assert "no function 'nothing'" in line("nothing", status=4).stderr
