"""The examples, small, as a user would run them. What needs branches runs on the real server once serving.REAL has them."""

import importlib.util
import json
import pathlib
import types

import numpy
import pytest

from conftest import ROOT
from serving import REAL, served  # noqa: F401
from test_magic import shell, there  # noqa: F401

SMALL = types.SimpleNamespace(neurons=200, settle_ms=100.0, ask_ms=50.0, at_a_time=3)
needs_branches = pytest.mark.skipif("branch" not in REAL, reason="this server has no branches yet")


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / (name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_full_runs_answer_alike(server):
    from myelin import Client

    example = load("what_if")
    one, same, more = example.by_full_runs(Client(server.url, server.token), [1.0, 1.0, 2.0], SMALL)
    assert len(one[0]) and numpy.array_equal(one[0], same[0]) and numpy.array_equal(one[1], same[1])
    assert len(more[0]) > len(one[0])


@needs_branches
def test_what_if(served, capsys, monkeypatch, tmp_path):
    there = served("branch")
    monkeypatch.setenv("MYELIN_TOKEN", there.token)
    example = load("what_if")
    assert example.main(["--url", there.url, "--branches", "7", "--full", "3", "--neurons", "200", "--settle-ms", "100", "--ask-ms", "50", "--at-a-time", "3"]) == 0
    out = capsys.readouterr().out
    assert "7 branches" in out and "their spikes are identical" in out


def cells():
    notebook = json.loads((ROOT / "examples" / "what_if.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_whole():
    text = pathlib.Path(ROOT / "examples" / "what_if.ipynb").read_text()
    assert json.loads(text)["nbformat"] == 4 and '"outputs": []' in text
    for source in cells():
        body = source.partition("\n")[2] if source.startswith("%%") else source
        if not source.startswith("%load_ext"):
            compile(body, "<cell>", "exec")


@needs_branches
def test_the_notebook_runs(shell, there, capsys):
    there("branch")
    space = shell.user_ns
    for source in cells():
        if source.startswith("%%myelin"):
            shell.run_cell(source)
        elif not source.startswith("%"):
            exec(compile(source, "<cell>", "exec"), space)
    out = capsys.readouterr().out
    assert "settled at 1000.0 ms" in out and out.count("spikes/s") == 10 and space["now"] == 1000.0
