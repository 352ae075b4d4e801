"""%%myelin. IPython is no part of the tests' environment: a shell with the three members that the magic uses stands in for it."""

import importlib.util
import io
import sys
import types

import numpy
import pytest

import myelin
from conftest import wait_until
from myelin.client import magic
from serving import contract, served  # noqa: F401


class Shell:
    """What the magic uses of IPython's InteractiveShell."""

    def __init__(self):
        self.user_ns, self.magics = {}, {}
        self.magics_manager = types.SimpleNamespace(magics={"cell": self.magics})

    def register_magic_function(self, function, magic_kind="line", magic_name=None):
        assert magic_kind == "cell"
        self.magics[magic_name] = function

    def push(self, variables):
        self.user_ns.update(variables)

    def run_cell(self, text):
        first, _, body = text.partition("\n")
        name, _, line = first[2:].partition(" ")
        self.magics[name](line, body)


@pytest.fixture
def shell(monkeypatch):
    for name in ("MYELIN_URL", "MYELIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if importlib.util.find_spec("IPython"):
        from IPython.core.interactiveshell import InteractiveShell

        made = InteractiveShell()
        made.run_cell = lambda text, run=made.run_cell_magic: run("myelin", *text[9:].partition("\n")[::2])
    else:
        print("IPython is not installed: a stand-in for its shell is used")
        made = Shell()
    myelin.load_ipython_extension(made)
    yield made
    for session in magic._sessions.values():
        try:
            session.delete()
        except myelin.client.MyelinError:
            pass
    magic._sessions.clear()


@pytest.fixture
def there(served, monkeypatch):
    def at(*features):
        server = served(*features)
        monkeypatch.setenv("MYELIN_URL", server.url)
        monkeypatch.setenv("MYELIN_TOKEN", server.token)
        return server

    return at


def test_a_cell_runs_in_a_session_and_brings_its_results(shell, there, capsys):
    there("exec", "sessions")
    shell.run_cell("%%myelin python -o a,b\na = 1\nb = 'x'\nprint('hello')")
    assert shell.user_ns["a"] == 1 and shell.user_ns["b"] == "x"
    assert capsys.readouterr().out == "hello\n"
    shell.run_cell("%%myelin python -o c\nimport numpy\nc = numpy.arange(100) + a")
    assert isinstance(shell.user_ns["c"], numpy.ndarray) and shell.user_ns["c"][0] == 1
    shell.run_cell("%%myelin named --engine python -o a\na = 2")
    assert shell.user_ns["a"] == 2 and myelin.Client().session("python", "named").exec("", returns="a").data == 2
    shell.run_cell("%%myelin python --fresh -o a\na = 'a' in globals()")
    assert shell.user_ns["a"] is False


def test_an_error_has_the_cells_line(shell, there, capsys):
    there("exec", "sessions")
    with pytest.raises(magic.CellFailed) as error:
        shell.run_cell("%%myelin python\nprint('before')\nx = 1\n1/0")
    lines = error.value._render_traceback_()
    assert "line 4" in lines[0] and "1/0" in "".join(lines) or "line 4" in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero" and capsys.readouterr().out == "before\n"
    with pytest.raises(magic.CellFailed, match="SyntaxError"):
        shell.run_cell("%%myelin python\ndef f(:")


def test_wrong_use_is_said_without_a_traceback(shell, there):
    there("exec", "sessions")
    with pytest.raises(magic.CellFailed) as error:
        shell.run_cell("%%myelin python --nosuch\n")
    assert "usage: %%myelin" in "".join(error.value.lines)
    with pytest.raises(magic.CellFailed) as error:
        shell.run_cell("%%myelin --help\n")
    assert "NAME,NAME" in "".join(error.value.lines)
    with pytest.raises(magic.CellFailed, match="myelin serve"):
        shell.run_cell("%%myelin python --url http://127.0.0.1:1\n")


def test_a_session_that_ended_is_replaced_at_the_next_cell(shell, there):
    there("exec", "sessions")
    shell.run_cell("%%myelin python\na = 1")
    (session,) = magic._sessions.values()
    session.delete()
    wait_until(lambda: session.state == "ended", "the session's end")
    with pytest.raises(magic.CellFailed):
        shell.run_cell("%%myelin python\na = 2")
    shell.run_cell("%%myelin python -o a\na = 3")
    assert shell.user_ns["a"] == 3


def test_output_and_progress_come_while_the_cell_runs(shell, there, contract, monkeypatch):
    monkeypatch.setenv("MYELIN_URL", contract.url)
    monkeypatch.setenv("MYELIN_TOKEN", contract.token)
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    seen = []

    class Look:
        def write(self, text):
            session = next(iter(contract.contract.sessions.values()))
            seen.append((text, session.state))
            return out.write(text)

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Look())
    shell.run_cell("%%myelin python\nimport time\nprint('first')\nfor i in range(20):\n    progress(i / 20, i, 20)\n    time.sleep(0.05)\nprint('last')")
    assert out.getvalue() == "first\nlast\n"
    assert ("first\n", "busy") in seen, "it is shown before the call has ended"
    assert "█" in err.getvalue() and "of 20 ms" in err.getvalue() and err.getvalue().endswith("\r")


def test_keep_says_the_run(shell, there, capsys):
    there("runs", "exec", "sessions")
    shell.run_cell("%%myelin python -o a --keep\na = [1, 2]")
    assert "kept as run r_" in capsys.readouterr().out


def test_without_ipython_it_says_so():
    with pytest.raises(ImportError, match="IPython"):
        myelin.load_ipython_extension(None)


def test_unloading(shell):
    if isinstance(shell, Shell):
        myelin.client.unload_ipython_extension(shell)
        assert "myelin" not in shell.magics
