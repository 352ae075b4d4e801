"""%%myelin in IPython's own shell."""

import io
import sys

import numpy
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import myelin
from conftest import wait_until
from myelin.client import magic
from serving import contract, served  # noqa: F401


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """A notebook's kernel, as far as cells go. `run(text)` runs one and raises what it raised, after IPython has shown it."""
    for name in ("MYELIN_URL", "MYELIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    made = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}))

    def run(text):
        result = made.run_cell(text)
        result.raise_error()
        return result.result

    made.run = run
    run("%load_ext myelin")
    yield made
    for session in magic._sessions.values():
        try:
            session.delete()
        except myelin.client.MyelinError:
            pass
    magic._sessions.clear()
    made.restore_sys_module_state()


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
    shell.run("%%myelin python -o a,b\na = 1\nb = 'x'\nprint('hello')")
    assert shell.user_ns["a"] == 1 and shell.user_ns["b"] == "x"
    assert capsys.readouterr().out == "hello\n"
    shell.run("%%myelin python -o c\nimport numpy\nc = numpy.arange(100) + a")
    assert isinstance(shell.user_ns["c"], numpy.ndarray) and shell.user_ns["c"][0] == 1
    shell.run("%%myelin named --engine python -o a\na = 2")
    assert shell.user_ns["a"] == 2 and myelin.Client().session("python", "named").exec("", returns="a").data == 2
    shell.run("%%myelin python --fresh -o a\na = 'a' in globals()")
    assert shell.user_ns["a"] is False


def test_what_it_brought_is_there_for_the_next_cell(shell, there, capsys):
    there("exec", "sessions")
    shell.run("%%myelin nest -o events\nnest.ResetKernel()\nn = nest.Create('iaf_psc_alpha', params={'I_e': 376.0})\n"
              "r = nest.Create('spike_recorder')\nnest.Connect(n, r)\nnest.Simulate(200.0)\nevents = r.events")
    capsys.readouterr()
    assert shell.run("len(events['times'])") > 1
    assert "Out" in capsys.readouterr().out
    shell.run("factor = 3\nimport numpy as np")
    assert shell.run("(np.asarray(events['senders']) * factor).min()") == 3


def test_an_error_has_the_cells_line(shell, there, capsys):
    there("exec", "sessions")
    with pytest.raises(magic.CellFailed) as error:
        shell.run("%%myelin python\nprint('before')\nx = 1\n1/0")
    lines = error.value._render_traceback_()
    assert "line 4" in lines[0] and "1/0" in lines[0] and lines[-1] == "ZeroDivisionError: division by zero"
    # Shown are these lines, below what the cell printed, and nothing of the client's frames.
    shown = capsys.readouterr().out
    assert shown.startswith("before\n") and [line.strip() for line in shown.splitlines()[1:] if line.strip()] == [line.strip() for line in lines]
    with pytest.raises(magic.CellFailed, match="SyntaxError"):
        shell.run("%%myelin python\ndef f(:")


def test_wrong_use_is_said_without_a_traceback(shell, there):
    there("exec", "sessions")
    with pytest.raises(magic.CellFailed) as error:
        shell.run("%%myelin python --nosuch\npass")
    assert "usage: %%myelin" in "".join(error.value.lines)
    with pytest.raises(magic.CellFailed) as error:
        shell.run("%%myelin --help\npass")
    assert "NAME,NAME" in "".join(error.value.lines)
    with pytest.raises(magic.CellFailed, match="myelin serve"):
        shell.run("%%myelin python --url http://127.0.0.1:1\npass")


def test_a_session_that_ended_is_replaced_at_the_next_cell(shell, there):
    there("exec", "sessions")
    shell.run("%%myelin python\na = 1")
    (session,) = magic._sessions.values()
    session.delete()
    wait_until(lambda: session.state == "ended", "the session's end")
    with pytest.raises(magic.CellFailed):
        shell.run("%%myelin python\na = 2")
    shell.run("%%myelin python -o a\na = 3")
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
    shell.run("%%myelin python\nimport time\nprint('first')\nfor i in range(20):\n    progress(i / 20, i, 20)\n    time.sleep(0.05)\nprint('last')")
    assert out.getvalue() == "first\nlast\n"
    assert ("first\n", "busy") in seen, "it is shown before the call has ended"
    assert "█" in err.getvalue() and "of 20 ms" in err.getvalue() and err.getvalue().endswith("\r")


def test_keep_says_the_run(shell, there, capsys):
    there("runs", "exec", "sessions")
    shell.run("%%myelin python -o a --keep\na = [1, 2]")
    assert "kept as run r_" in capsys.readouterr().out


def test_without_ipython_it_says_so():
    with pytest.raises(ImportError, match="IPython"):
        myelin.load_ipython_extension(None)


def test_unloading(shell, there):
    shell.run("%unload_ext myelin")
    assert "myelin" not in shell.magics_manager.magics["cell"]
    with pytest.raises(UsageError):
        shell.run_cell_magic("myelin", "python", "a = 1")
    shell.run("%load_ext myelin")
    assert "myelin" in shell.magics_manager.magics["cell"]
