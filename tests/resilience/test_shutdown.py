"""SIGTERM with all at once: simulations, calls, WebSockets (G1)."""

import os
import signal
import socket
import threading

import pytest
from conftest import PATIENCE_S, Session, descendants, is_running, wait_until
from myelin.client.transport import Transport
from myelin.client.websocket import Closed, WebSocket
from resilience.test_faults import in_background


def test_sigterm_beside_simulations_and_web_sockets(make_server):
    """Every call is answered, every WebSocket is told (1001), the server leaves with 0 and nothing is left."""
    server = make_server()
    sessions = [Session(server.client(), "nest", "sim%d" % i) for i in range(20)]
    calls = [in_background(one.exec, "n = nest.Create('iaf_psc_alpha', 100)\nnest.Simulate(1e9)") for one in sessions]
    transport = Transport("http://%s:%d" % server.address, server.token, None, PATIENCE_S)
    sockets = [WebSocket(transport, one.path + "/stream?topics=state") for one in sessions for _ in range(10)]
    wait_until(lambda: all(one.status().json()["state"] == "busy" for one in sessions), "20 simulations")
    codes = [None] * len(sockets)

    def read(i):
        try:
            while True:
                sockets[i].receive()
        except Closed as closed:
            codes[i] = closed.code

    readers = [threading.Thread(target=read, args=(i,)) for i in range(len(sockets))]
    for reader in readers:
        reader.start()
    children = descendants(server.process.pid)
    server.process.send_signal(signal.SIGTERM)
    for reader in readers:
        reader.join(PATIENCE_S)
    assert server.process.wait(PATIENCE_S) == 0
    assert codes == [1001] * len(sockets), sorted(map(str, codes))
    for thread, answers in calls:
        thread.join(PATIENCE_S)
        assert answers and answers[0].status == 503, answers
    wait_until(lambda: not [p for p in children if is_running(p)], "no orphan is left")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_supervisor_hears_that_the_server_turns(make_server, tmp_path, abstract):
    """What systemd is told (sd_notify(3)): ready, alive, stopping; by the server alone."""
    path = "@myelin-test-%d" % os.getpid() if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + path[1:] if abstract else path)
        supervisor.settimeout(PATIENCE_S)
        server = make_server(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        heard = [supervisor.recv(100) for _ in range(6)]
        assert heard == [b"READY=1"] + 5 * [b"WATCHDOG=1"]
        assert Session(server.client(), "python").value("import os\nn = [k for k in os.environ if k.startswith(('NOTIFY', 'WATCHDOG'))]", "n") == []
        server.process.send_signal(signal.SIGSTOP)  # as one that hangs
        supervisor.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                supervisor.recv(100)
        server.process.send_signal(signal.SIGCONT)
        supervisor.settimeout(PATIENCE_S)
        assert supervisor.recv(100) == b"WATCHDOG=1"
        server.process.send_signal(signal.SIGTERM)
        while supervisor.recv(100) != b"STOPPING=1":
            pass
        assert server.process.wait(PATIENCE_S) == 0


def test_a_watchdog_of_another_process_is_not_heard(make_server, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        make_server(environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"})
        supervisor.settimeout(PATIENCE_S)
        assert supervisor.recv(100) == b"READY=1"
        supervisor.settimeout(1)
        with pytest.raises(TimeoutError):
            supervisor.recv(100)
