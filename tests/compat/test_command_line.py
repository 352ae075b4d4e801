"""`myelin nest-server` beside the original's command line: the same words, without its defects. The real server runs behind it."""

import os
import socket
import subprocess
import urllib.request

import pytest

from conftest import BINARY, ENGINES_PYTHON


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def command(tmp_path):
    environment = dict(os.environ, HOME=str(tmp_path), MYELIN_PYTHON=ENGINES_PYTHON, NEST_SERVER_ACCESS_TOKEN="secret")
    environment.pop("XDG_RUNTIME_DIR", None)
    link = tmp_path / "nest-server"
    link.symlink_to(BINARY)
    ports = []

    def call(*arguments, program=None):
        if "-p" in arguments:
            ports.append(arguments[arguments.index("-p") + 1])
        program = program or [str(BINARY), "nest-server"]
        return subprocess.run(program + list(arguments), env=environment, capture_output=True, text=True, timeout=60)

    call.link = [str(link)]
    yield call
    for port in set(ports):
        call("stop", "-p", port)


def answers(port):
    request = urllib.request.Request("http://127.0.0.1:%s/" % port, headers={"NESTServerAuth": "secret"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read()


def test_start_status_pid_restart_stop(command):
    port = str(free_port())
    started = command("start", "-d", "-p", port)
    assert started.returncode == 0 and "NEST Server is now running at http://127.0.0.1:%s." % port in started.stdout, started
    assert b'"nest"' in answers(port)
    assert "NEST Server is already running at http://127.0.0.1:%s." % port in command("start", "-d", "-p", port).stdout
    status = command("status", program=command.link)
    assert "127.0.0.1:" + port in status.stdout and ".log" in status.stdout, status
    before = command("pid", "-p", port).stdout.split()
    assert before and all(os.path.exists("/proc/" + pid) for pid in before)
    restarted = command("restart", "-d", "-p", port)
    assert restarted.returncode == 0, restarted
    assert b'"nest"' in answers(port)
    assert command("pid", "-p", port).stdout.split() != before
    stopped = command("stop", "-p", port)
    assert stopped.returncode == 0 and "NEST Server running at http://127.0.0.1:%s has stopped." % port in stopped.stdout, stopped
    again = command("stop", "-p", port)
    assert again.returncode == 1 and "NEST Server is not running at http://127.0.0.1:%s." % port in again.stdout, again


def test_plain_http_to_others_is_refused_with_the_remedy(command):
    refused = command("start", "-h", "0.0.0.0", "-p", str(free_port()))
    assert refused.returncode == 1 and "MYELIN_ALLOW_PLAIN_HTTP=true nest-server start" in refused.stderr, refused


def test_wrong_options_start_nothing(command):
    wrong = command("start", "-z")
    assert wrong.returncode != 0 and "Usage" in wrong.stdout + wrong.stderr, wrong
    assert command().returncode == 0
