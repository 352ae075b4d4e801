"""DIR/socket: the operator's way in without a token."""

import os
import socket
import stat

from conftest import Session


def over_socket(server, *headers, path="/v1/status", timeout=60):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(server.data / "socket"))
        connection.sendall("\r\n".join(["GET %s HTTP/1.1" % path, "Host: anything", "Connection: close", *headers, "", ""]).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


def test_who_opens_it_is_the_operator(server):
    mode = os.stat(server.data / "socket").st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    status, body = over_socket(server)
    assert status == 200 and b'"operator":true' in body
    assert over_socket(server, path="/api/NumProcesses")[0] == 200


def test_a_wrong_token_stays_wrong(server):
    assert over_socket(server, "Authorization: Bearer wrong")[0] == 401
    assert over_socket(server, "Authorization: Bearer ")[0] == 401
    assert over_socket(server, "NESTServerAuth: wrong")[0] == 401
    assert over_socket(server, "NESTServerAuth: ", path="/api/NumProcesses")[0] == 403
    assert over_socket(server, "Authorization: Bearer " + server.token)[0] == 200


def test_the_port_still_asks_for_a_token(server):
    assert server.client(token=None).get("/v1/status").status == 401


def test_sessions_can_not_reach_it(server):
    session = Session(server.client(), "python")
    source = ("import os, socket\ntry:\n    s = socket.socket(socket.AF_UNIX)\n    s.connect(%r)\n    reached = True\n"
              "except OSError:\n    reached = os.path.exists(%r)" % ((str(server.data / "socket"),) * 2))
    assert session.value(source, "reached") is False
    session.delete()


def test_it_goes_with_the_server_and_a_stale_one_is_replaced(make_server):
    server = make_server()
    path = server.data / "socket"
    assert over_socket(server)[0] == 200
    server.kill()
    assert path.exists()
    again = make_server(data=server.data)
    assert over_socket(again)[0] == 200
    again.stop()
    assert not path.exists()


def test_it_can_be_turned_off(make_server):
    server = make_server(socket=False)
    assert not (server.data / "socket").exists()


def test_a_path_that_is_too_long_is_a_warning(make_server, data_root):
    server = make_server(data=data_root / ("long" * 25))
    assert server.client().get("/v1/status").status == 200
    assert "no Unix socket" in server.log_text() and "shorter path" in server.log_text()
    assert not (server.data / "socket").exists()


def test_without_tokens_it_is_the_local_user(make_server):
    server = make_server(token=None, auth="none")
    status, body = over_socket(server)
    assert status == 200 and b'"user":"local"' in body
