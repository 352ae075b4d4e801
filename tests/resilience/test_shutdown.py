"""SIGTERM with all at once: simulations, calls, WebSockets (G1)."""

import signal
import threading

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
