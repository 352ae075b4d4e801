"""Bad requests: each is answered as it deserves, or its connection ends, and nobody else waits for it."""

import json
import random
import socket
import threading
import time

import pytest

SMALL = {"limits": {"body_mib": 1, "header_kib": 8, "json_depth": 16, "stdout_mib": 1}}


@pytest.fixture(scope="module")
def small(module_server):
    running = module_server(**SMALL)
    running.client().call("ResetKernel")
    return running


def status_of(data):
    return int(data.split(None, 2)[1]) if data.startswith(b"HTTP/") else None


def still_well(server):
    assert server.client().value("a = 6 * 7", "a") == 42


def test_token_missing_wrong_and_bearer(small):
    client = small.client(token=None)
    for headers in ({}, {"NESTServerAuth": ""}, {"NESTServerAuth": "wrong"}, {"NESTServerAuth": small.token + "x"},
                    {"NESTServerAuth": small.token[:-1]}, {"Authorization": "Bearer wrong"},
                    {"Authorization": "Basic " + small.token}, {"Authorization": small.token}):
        for path in ("/", "/api", "/api/ResetKernel", "/exec", "/nothing/there"):
            answer = client.get(path, headers=headers)
            assert (answer.status, answer.text) == (403, "Unauthorized"), (headers, path, answer)
        answer = client.get("/v1/sessions", headers=headers)
        assert answer.status == 401 and answer.json()["code"] == "unauthorized", (headers, answer)
    assert client.get("/?token=" + small.token).status == 403
    assert client.get("/", headers={"Authorization": "Bearer " + small.token}).status == 200


def test_a_browser_without_a_token_is_sent_to_the_page_and_sees_no_more(small):
    client = small.client(token=None)
    page = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for method, more in (("GET", {}), ("HEAD", {}), ("GET", {"body": "x"}), ("GET", {"body": "{}"})):
        answer = client.request(method, "/", headers=page, **more)
        assert answer.status == 302 and answer.headers["location"] == "/app/" and b"nest" not in answer.body, (method, more, answer)
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/", headers=page, body="{}").status == 403, method
    assert client.get("/").status == 403


def test_revoked_token(make_server):
    import subprocess

    from conftest import BINARY

    server = make_server()

    def token(*arguments):
        return subprocess.run([str(BINARY), "token", *arguments, "--data", str(server.data)], capture_output=True, text=True,
                              timeout=60, check=True).stdout

    made = next(word for word in token("add", "anna").split() if len(word) >= 20 and "/" not in word).rpartition("=")[2]
    anna = server.client(token=made)
    anna.call("ResetKernel")
    anna.call("Create", "iaf_psc_alpha", 3)
    server.client().call("Create", "iaf_psc_alpha", 1)
    assert anna.get("/api/network_size").json() == 3
    assert server.client().get("/api/network_size").json() == 1
    assert "anna" in token("list")
    token("revoke", "anna")
    assert anna.get("/api/network_size").status == 403
    assert anna.get("/v1/sessions").status == 401
    assert server.client().get("/api/network_size").json() == 1


def test_malformed_requests(small):
    for data in (b"\r\n\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
                 b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header\r\n\r\n",
                 b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
                 b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
                 b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        connection = small.raw(data)
        connection.shutdown(socket.SHUT_WR)
        status = status_of(small.read_all(connection))
        assert status is None or 400 <= status < 500 or status == 505, (data, status)
        connection.close()
    still_well(small)


def test_random_bytes(small):
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(100):
        data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
        connection = small.raw(data)
        connection.shutdown(socket.SHUT_WR)
        small.read_all(connection)
        connection.close()
    still_well(small)


def test_header_too_large(small):
    for headers in ("X-Big: " + "x" * 20000, "\r\n".join("X-%d: y" % i for i in range(3000))):
        connection = small.raw()
        try:
            connection.sendall(("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n\r\n" % headers).encode())
        except OSError:
            pass
        assert status_of(small.read_all(connection)) in (431, None)
    answer = small.client().get("/", headers={"X-Big": "x" * 12000})
    assert answer.status == 431 and answer.headers["content-type"] == "application/problem+json" and answer.json()["code"] == "header_too_large"
    still_well(small)


def test_body_too_large(small):
    # Said by Content-Length: refused before it is sent.
    connection = small.raw(b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\nContent-Type: application/json\r\n"
                           b"Content-Length: 9999999999\r\n\r\n" % small.token.encode())
    connection.settimeout(60)
    assert status_of(connection.recv(4096)) == 413
    connection.close()
    # Not said: refused as soon as it is too much.
    connection = small.raw(b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\nContent-Type: application/json\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n" % small.token.encode())
    connection.settimeout(60)
    received = b""
    try:
        for _ in range(64):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    except OSError:
        pass
    try:
        received = connection.recv(4096)
    except OSError:
        pass
    assert status_of(received) in (413, None)
    still_well(small)


def test_truncated_and_slow_bodies_stall_nobody(small):
    head = (b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{\"sou" % small.token.encode())
    stuck = [small.raw(head) for _ in range(50)] + [small.raw(b"GET / HT") for _ in range(50)] + [small.raw() for _ in range(50)]
    for _ in range(5):
        still_well(small)
        assert small.client().get("/").status == 200
    for connection in stuck[:25]:
        connection.close()
    still_well(small)
    for connection in stuck:
        connection.close()


def test_a_stalled_request_is_ended(make_server):
    """408, or the end of the connection; within the header's deadline, whatever that is, but not never."""
    server = make_server()
    connection = server.raw(b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: secret\r\nContent-Length: 10\r\n\r\n{")
    connection.settimeout(300)
    status = status_of(server.read_all(connection))
    assert status in (408, None)


def test_a_client_that_does_not_read(small):
    """A large answer that nobody fetches holds up neither its kernel nor others."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(small.address)
    body = json.dumps({"source": "import numpy as np\na = np.arange(3_000_000) * 1.1", "return": "a"}).encode()
    connection.sendall(b"POST /s/unread/exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n" % (small.token.encode(), len(body)) + body)
    time.sleep(2)
    still_well(small)
    connection.close()
    assert small.client().kernel("unread").value("a = 1", "a") == 1


@pytest.mark.parametrize("body", ['{"source":', "", "{'a': 1}", '{"a": 1} x', '"\\ud800', "[" * 100 + "]" * 100, '{"a":' * 100 + "1" + "}" * 100,
                                  "[" * 200000, '{"a":' * 100000, "\x00", '{"source": "a=1", "return": ' + "[" * 30 + "]" * 30 + "}"])
def test_json_bombs_and_errors(small, body):
    answer = small.client().request("POST", "/exec", body=body, headers={"Content-Type": "application/json"})
    assert answer.status in (400, 413), answer
    still_well(small)


def test_unknown_and_wrong_calls(small):
    client = small.client()
    for path, content, words in (("/api/NoSuchCall", {}, "AttributeError"), ("/api/Create", {"bogus": 1}, "bogus"),
                                 ("/api/Create", {"args": []}, "model"), ("/api/Create", {"model": "nope"}, "UnknownModelName"),
                                 ("/api/Simulate", {"t": -1}, "NESTError"), ("/api/Simulate", {"t": "x"}, "TypeError")):
        answer = client.post(path, content)
        assert answer.status == 400 and words in answer.json()["message"], (path, content, answer)
    answer = client.exec("a = 1\nfor i in range(3):\n  b = i / (i - 1)\n")
    assert answer.status == 400 and answer.json()["lineNumber"] == 3
    # A kernel that refused something goes on working.
    client.call("ResetKernel")
    client.call("Create", "iaf_psc_alpha", 2)
    client.call("Simulate", 1.0)
    assert client.post("/api/Simulate", {"t": -1}).status == 400
    client.call("Simulate", 1.0)
    assert client.get("/api/biological_time").json() == 2.0


def test_unknown_paths_methods_and_hosts(small):
    client = small.client()
    assert client.get("/nothing").status == 404
    assert client.get("/v1/nothing").status == 404 and "problem+json" in client.get("/v1/nothing").headers["content-type"]
    assert client.request("DELETE", "/api/ResetKernel").status == 405
    assert client.get("/v1/sessions/nope").status == 404
    assert client.post("/v1/sessions", {"engine": "nope"}).status in (400, 404)
    assert client.post("/v1/sessions", {}).status == 400
    assert client.get("/", headers={"Host": "evil.example"}).status == 421
    assert client.get("/", headers={"Host": "localhost:%d" % small.address[1]}).status == 200


def test_much_output(small):
    """Beyond its limit stdout is cut, and the answer stays an answer."""
    answer = small.client().exec("print('x' * 10_000_000)\na = 5", "a")
    assert answer.status in (200, 400), answer
    assert len(answer.body) < 4 << 20
    if answer.status == 200:
        assert answer.json()["data"] == 5
    still_well(small)


def test_many_connections_at_once(small):
    wrong = []

    def work():
        for _ in range(20):
            if small.client().get("/").status != 200:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong
