"""`myelin exec`, `call`, `sessions`, `jobs`, `runs`, `branch`, `engine list`: what they print, where, and how they exit."""

import json
import os
import pty
import select
import signal
import subprocess

import numpy
import pytest

from conftest import BINARY, PATIENCE_S, wait_until
from serving import contract, contract_socket, served  # noqa: F401


class Line:
    """The command line against one server."""

    def __init__(self, folder, url=None, token=None, **environment):
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("MYELIN_", "NEST_SERVER_"))}
        self.environment.update({"HOME": str(folder), "MYELIN_DATA": str(folder / "none")}, **environment)
        if url:
            self.environment.update(MYELIN_URL=url, MYELIN_TOKEN=token or "")

    def __call__(self, *words, stdin=None, status=0):
        done = subprocess.run([str(BINARY), *map(str, words)], input=stdin, capture_output=True, text=True, env=self.environment,
                              cwd=self.folder, timeout=PATIENCE_S)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *words, **options):
        return subprocess.Popen([str(BINARY), *map(str, words)], env=self.environment, cwd=self.folder, **options)

    def json(self, *words, **options):
        return json.loads(self(*words, "--json", **options).stdout)


@pytest.fixture
def line(served, tmp_path):
    def make(*features):
        there = served(*features)
        made = Line(tmp_path, there.url, there.token)
        made.served = there
        return made

    return make


def test_exec_prints_what_the_script_prints_or_what_it_returns(line):
    run = line("exec", "sessions")
    done = run("exec", "-", "--engine", "python", stdin="print('hello ü')")
    assert (done.stdout, done.stderr) == ("hello ü\n", "")
    done = run("exec", "-", "--engine", "python", "--return", "a", stdin="a = [1, 2.5, None]\nprint('seen')")
    assert json.loads(done.stdout) == [1, 2.5, None] and done.stderr == "seen\n"
    done = run("exec", "-", "--engine", "python", "--return", "a,b", "--return", "c", stdin="a, b, c = 1, 'x', {}")
    assert json.loads(done.stdout) == {"a": 1, "b": "x", "c": {}}
    assert run.json("exec", "-", "--engine", "python", "--return", "a", stdin="a = 1\nprint(2)") == {"data": 1, "stdout": "2\n"}
    wait_until(lambda: run.json("sessions")["sessions"] == [] or run.served.real, "the sessions of these calls have ended")


def test_exec_in_a_session_that_stays(line, tmp_path):
    run = line("exec", "sessions")
    (tmp_path / "a.py").write_text("a = globals().get('a', 0) + 1\n")
    for expected in ("1\n", "2\n"):
        assert run("exec", "a.py", "--session", "stays here", "--engine", "python", "--return", "a").stdout == expected
    assert run("exec", "a.py", "--session", "stays here", "--fresh", "--return", "a").stdout == "1\n"
    listed = run("sessions").stdout.splitlines()
    assert listed[0].split()[:3] == ["ID", "NAME", "ENGINE"]
    (row,) = [row for row in listed if "stays here" in row]
    assert row.index("stays here") == listed[0].index("NAME")
    shown = run("sessions", "show", "stays here").stdout
    identity = run.json("sessions", "show", "stays here")["id"]
    assert identity in shown and row.startswith(identity)
    assert run("sessions", "end", "stays here").stdout == identity + " has ended\n"
    wait_until(lambda: identity not in run("sessions").stdout, "the session's end")
    assert "lists them" in run("sessions", "show", "stays here", status=4).stderr


def test_a_failing_script_is_one_line_and_status_1(line, tmp_path):
    run = line("exec", "sessions")
    (tmp_path / "bad.py").write_text("print('before')\n\n1/0\n")
    done = run("exec", "bad.py", "--engine", "python", status=1)
    assert done.stdout == "before\n" and done.stderr == "myelin: bad.py:3: ZeroDivisionError: division by zero\n"
    done = run("exec", "bad.py", "--engine", "python", "--json", status=1)
    problem = json.loads(done.stdout)
    assert (problem["code"], problem["line"], problem["class"]) == ("call_failed", 3, "ZeroDivisionError")


def test_statuses(line, tmp_path):
    run = line("exec", "sessions")
    assert "File" in run("exec", "--help").stdout or "FILE" in run("exec", "--help").stdout
    run(status=2)
    run("exec", status=2)
    run("exec", "--nosuch", status=2)
    assert "can't be read" in run("exec", "nosuch.py", status=2).stderr
    assert "there are" in run("exec", "-", "--engine", "nosuch", stdin="", status=4).stderr
    assert "--token" in run("sessions", "--token", "wrong", status=4).stderr
    refused = run("sessions", "--url", "http://127.0.0.1:1", status=3).stderr
    assert "127.0.0.1:1" in refused and "myelin serve" in refused and refused.count("\n") == 1
    assert "localhost" not in run("sessions", "--socket", tmp_path / "nosuch", status=3).stderr.partition(";")[0]


def begun(run, session):
    return "begun" in subprocess.run([str(BINARY), "sessions", "output", session], capture_output=True, text=True, env=run.environment).stdout


def test_ctrl_c_interrupts_the_call(line):
    run = line("exec", "sessions", "interrupt", "output")
    script = run.folder / "endless.py"
    script.write_text("print('begun', flush=True)\nwhile True: pass\n")
    running = run.start("exec", script, "--engine", "python", "--session", "endless", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: begun(run, "endless"), "the script's begin")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1 and "interrupting" in err and "interrupted at line 2" in err, err
    assert "begun" in out
    assert run("exec", "-", "--session", "endless", "--engine", "python", "--return", "a", stdin="a = 1").stdout == "1\n"
    refused = run("sessions", "interrupt", "endless", status=4).stderr
    assert "no call" in refused or "nothing" in refused
    run("sessions", "end", "endless")


def test_the_second_ctrl_c_leaves(contract, tmp_path):
    run = Line(tmp_path, contract.url, contract.token)
    run("exec", "-", "--session", "stubborn", "--engine", "python", stdin="")
    session = next(iter(contract.contract.sessions.values()))
    session.interrupt = lambda: None  # a call that can't be interrupted
    (tmp_path / "endless.py").write_text("print('begun')\nwhile 'stop' not in globals(): pass\n")
    running = run.start("exec", "endless.py", "--session", "stubborn", "--engine", "python", stderr=subprocess.PIPE, text=True)
    wait_until(lambda: begun(run, "stubborn"), "the script's begin")
    running.send_signal(signal.SIGINT)
    assert "interrupting" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130 and "may still run in session " + session.id in err
    session.space["stop"] = True


def test_progress_is_drawn_on_a_terminal_only(contract, tmp_path):
    run = Line(tmp_path, contract.url, contract.token)
    source = "import time\nfor i in range(30):\n    progress(i / 30, i, 30)\n    time.sleep(0.05)\n"
    master, slave = pty.openpty()
    running = run.start("exec", "-", "--engine", "python", stdin=subprocess.PIPE, stderr=slave, stdout=subprocess.PIPE)
    os.close(slave)
    running.stdin.write(source.encode())
    running.stdin.close()
    seen = b""
    while select.select([master], [], [], PATIENCE_S)[0]:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
    assert running.wait(PATIENCE_S) == 0 and running.stdout.read() == b""
    running.stdout.close()
    os.close(master)
    text = seen.decode()
    assert "█" in text and "of 30 ms" in text and text.endswith("\r\x1b[K")
    assert run("exec", "-", "--engine", "python", stdin=source).stderr == ""


def test_progress_of_the_real_server(server, tmp_path):
    run = Line(tmp_path, server.url, server.token)
    (tmp_path / "long.py").write_text("import nest\nnest.ResetKernel()\nnest.Create('iaf_psc_alpha', 20000)\nnest.Simulate(3000.)\n")
    master, slave = pty.openpty()
    running = run.start("exec", "long.py", stderr=slave, stdout=subprocess.DEVNULL)
    os.close(slave)
    seen, stopped = b"", False
    while select.select([master], [], [], PATIENCE_S)[0]:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
        if b"of 3000 ms" in seen and not stopped:
            stopped = True  # it need not run to its end
            running.send_signal(signal.SIGINT)
    os.close(master)
    assert running.wait(PATIENCE_S) in (0, 1)
    assert "of 3000 ms" in seen.decode()


# -- where the server is


def test_the_socket_nearby_needs_no_token(server, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".myelin").symlink_to(server.data)
    run = Line(tmp_path / "work")
    assert "ENGINE" in run("sessions").stdout or "no sessions" in run("sessions").stderr
    run = Line(tmp_path, MYELIN_DATA=str(server.data))
    assert run("exec", "-", "--engine", "python", "--return", "a", stdin="a = 1").stdout == "1\n"
    run = Line(tmp_path)
    assert run("exec", "-", "--engine", "python", "--data", server.data, "--return", "a", stdin="a = 1").stdout == "1\n"
    assert "token" in run("sessions", "--socket", server.data / "socket", "--token", "wrong", status=4).stderr
    assert "token" in run("sessions", "--url", server.url, status=4).stderr
    assert run("sessions", "--url", "unix:%s/socket" % server.data).returncode == 0


# -- what is new in the contract


def test_call(line):
    run = line("call", "sessions")
    run("exec", "-", "--session", "calls", "--engine", "python", stdin="def show(*args, **kwargs): return [list(args), kwargs]")
    done = run("call", "--session", "calls", "show", "-70.5", "text", "[1,2]", "true", "V_m=3", 'p={"a": null}')
    assert json.loads(done.stdout) == [[-70.5, "text", [1, 2], True], {"V_m": 3, "p": {"a": None}}]
    assert "nosuch" in run("call", "--session", "calls", "nosuch", status=1).stderr
    run("call", status=2)
    run("call", "--nosuch", "f", status=2)
    run("sessions", "end", "calls")


def test_branch(line):
    run = line("branch", "sessions")
    run("exec", "-", "--session", "trunk", "--engine", "python", stdin="a = 5")
    made = run("branch", "trunk", "--count", "2").stdout.splitlines()
    assert len(made) == 3 and made[0].startswith("ID")
    identities = [row.split()[0] for row in made[1:]]
    assert run("exec", "-", "--session", identities[0], "--return", "a", stdin="a += 1").stdout == "6\n"
    assert [s["name"] for s in run.json("branch", "trunk", "--name", "left,right")["sessions"]] == ["left", "right"]
    run("sessions", "end", "trunk", "left", "right", *identities)
    assert "no session" in run("branch", "nosuch", status=4).stderr


def test_jobs(line):
    run = line("jobs", "sessions")
    done = run("exec", "-", "--async", "--session", "jobs", "--engine", "python", "--return", "a", stdin="a = [4]")
    identity = done.stdout.strip()
    assert identity.startswith("r_")
    assert "is done" in run("jobs", "wait", identity).stderr
    assert run("jobs", "result", identity).stdout == "[4]\n"
    assert run.json("jobs", "show", identity)["state"] == "done" and identity in run("jobs").stdout
    failing = run("exec", "-", "--async", "--session", "jobs", "--engine", "python", stdin="1/0").stdout.strip()
    assert "ZeroDivisionError" in run("jobs", "wait", failing, status=1).stderr
    endless = run("exec", "-", "--async", "--session", "jobs", "--engine", "python", stdin="while True: pass").stdout.strip()
    wait_until(lambda: run.json("jobs", "show", endless)["state"] == "running", "the job's begin")
    assert run("jobs", "cancel", endless).stdout == "cancelling %s\n" % endless
    run("jobs", "wait", endless, status=1)
    assert "no " in run("jobs", "show", "r_nosuch", status=4).stderr
    run("sessions", "end", "jobs")


def test_runs(line, tmp_path):
    run = line("runs", "sessions")

    def keep(seed, title):
        source = "import numpy\nv = numpy.random.RandomState(%d).random_sample(100)\nn = numpy.arange(3)" % seed
        done = run("exec", "-", "--session", "runs", "--engine", "python", "--return", "v,n", "--keep", "--title", title, stdin=source)
        assert "kept as run " in done.stderr
        return done.stderr.split()[-1]

    one, other = keep(1, "Größe"), keep(2, "second")
    table = run("runs").stdout
    assert one in table and other in table and "Größe" in table
    assert [r["id"] for r in run.json("runs", "list", "--title", "Größe", "--limit", "1")["runs"]] == [one]
    assert run.json("runs", "show", one)["title"] == "Größe" and "Größe" in run("runs", "show", one).stdout
    assert json.loads(run("runs", "get", one, "n").stdout) == [0, 1, 2]
    assert sorted(json.loads(run("runs", "get", one).stdout)) == ["n", "v"]
    run("runs", "get", one, "v", "-o", "v.npy")
    values = numpy.load(tmp_path / "v.npy")
    assert values.shape == (100,)
    assert "runs show" in run("runs", "get", one, "--format", "csv", status=2).stderr
    assert "nosuch" in run("runs", "get", one, "nosuch", "-o", "x", status=4).stderr
    assert not (tmp_path / "x").exists() and not (tmp_path / "x.part").exists()
    run("runs", "export", one)
    with numpy.load(tmp_path / (one + ".npz")) as saved:
        assert any(numpy.array_equal(saved[name], values) for name in saved.files)
    run("runs", "export", one, "--format", "rocrate", "--output", "crate.zip")
    assert (tmp_path / "crate.zip").read_bytes()[:2] == b"PK"
    compared = run("runs", "compare", one, other).stdout.splitlines()
    assert compared[0] == "not identical" and compared[1].startswith("DATASET")
    assert run("runs", "compare", one, one).stdout.startswith("identical\n")
    assert "identical" in run("rerun", one).stdout
    assert run.json("runs", "rerun", one)["comparison"]["identical"] is True
    assert run("runs", "remove", one, other).stdout == "%s is removed\n%s is removed\n" % (one, other)
    assert one not in run("runs").stdout
    run("sessions", "end", "runs")


def test_engine_list(line):
    table = line("engines")("engine", "list").stdout
    assert table.split()[0] == "NAME" and "nest" in table


def test_what_a_server_sends_can_not_steer_the_terminal(contract, tmp_path):
    run = Line(tmp_path, contract.url, contract.token)
    run("exec", "-", "--session", "a\x1b[31mb", "--engine", "python", stdin="")
    assert "\x1b" not in run("sessions").stdout


def test_over_a_unix_socket(contract_socket, tmp_path):
    run = Line(tmp_path, contract_socket.url, "secret")
    assert run("exec", "-", "--engine", "python", "--return", "a", stdin="a = 1").stdout == "1\n"
