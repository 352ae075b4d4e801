"""HTTP and JSON that mean two things at once, or far too much: refused, and never the start of somebody else's request."""

import pathlib
import re
import socket
import time

import pytest

from conftest import Session

JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(module_server):
    return module_server(limits={"body_mib": 32})


@pytest.fixture(scope="module")
def session(server):
    return Session(server.client(), "python", "parsing")


def exchange(server, data, close=True):
    connection = server.raw(data)
    if close:
        connection.shutdown(socket.SHUT_WR)
    answer = server.read_all(connection)
    connection.close()
    return answer


# Each hides a second request. `two` where it is not hidden at all but honestly the next one.
HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: secret\r\n" + JSON
SMUGGLING = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "two lengths in one": POST + b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "length with a sign": POST + b"Content-Length: +%d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "length in hexadecimal": POST + b"Content-Length: 0x10\r\n\r\n" + HIDDEN,
    "length beyond 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN,
    "length with a space": POST + b"Content-Length: 1 0\r\n\r\n" + HIDDEN,
    "space before the colon": POST + b"Content-Length : %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "space before the name": POST + b" Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "obsolete folding": POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + HIDDEN,
    "bare carriage return": POST + b"X: a\rContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "NUL in a field": POST + b"X: a\0b\r\n\r\n" + HIDDEN,
    "no colon": POST + b"Content-Length\r\n\r\n" + HIDDEN,
    "two hosts": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n" + HIDDEN,
    "no host": b"GET / HTTP/1.1\r\n\r\n" + HIDDEN,
    "chunked is not the last coding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked, written oddly": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size with a sign": POST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size beyond 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size ended by a bare line feed": POST + b"Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n" + HIDDEN,
    "a chunk that is longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n0\r\n\r\n" + HIDDEN,
    "an endless extension of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n" + HIDDEN,
    "line feed in the target": b"GET /a\nb HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HIDDEN,
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HIDDEN,
    "a version that is none": b"GET / HTTP/1.10\r\nHost: 127.0.0.1\r\n\r\n" + HIDDEN,
    "a second protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_no_request_hides_in_another(server, session, name):
    answer = exchange(server, SMUGGLING[name])
    assert len(re.findall(rb"HTTP/1\.1 \d\d\d", answer)) == 1 and b"smuggled" not in answer, answer
    assert answer[9:12] in (b"400", b"413", b"431", b"501", b"505"), answer
    assert session.value("a = 1", "a") == 1


def test_honest_pipelining_is_two_answers(server):
    health = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert exchange(server, health * 3).count(b"HTTP/1.1 200") == 3
    chunked = (b"POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\n" % server.token.encode() + JSON
               + b"Transfer-Encoding: chunked\r\n\r\n3;note=x\r\n{\"s\r\n0d\r\nource\": \"a=1\"\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n")
    answer = exchange(server, chunked + health)
    assert answer.count(b"HTTP/1.1 200") == 2, answer


def test_bounds_of_a_head(server):
    line = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert exchange(server, line + b"".join(b"X-%d: y\r\n" % n for n in range(90)) + b"\r\n")[9:12] == b"200"
    assert exchange(server, line + b"".join(b"X-%d: y\r\n" % n for n in range(120)) + b"\r\n")[9:12] == b"431"
    assert exchange(server, line + b"X: " + b"y" * 7000 + b"\r\n\r\n")[9:12] == b"200"
    assert exchange(server, line + b"X: " + b"y" * 9000 + b"\r\n\r\n")[9:12] == b"431"
    assert exchange(server, b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[9:12] in (b"431", b"414")


# ---- JSON ----------------------------------------------------------------------------------------------------------------------------


def peak_kib(server):
    status = pathlib.Path("/proc/%d/status" % server.process.pid).read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


MIB = 1 << 20
BOMBS = {
    "a million levels of lists": (lambda: b"[" * 1_000_000 + b"]" * 1_000_000, {400}),
    "a million levels of objects": (lambda: b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000, {400}),
    "deep inside a known member": (lambda: b'{"source":"a=1","return":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400}),
    "65 levels": (lambda: b'{"source":"a=1","x":' + b"[" * 64 + b"]" * 64 + b"}", {400}),
    "never closed": (lambda: b"[" * 1_000_000, {400}),
    "a text of 100 MB": (lambda: b'{"source":"' + b"#" * (100 * MIB) + b'"}', {413}),
    "a text of 30 MB": (lambda: b'{"source":"#' + b"x" * (30 * MIB) + b'"}', {200, 400}),
    "a million members": (lambda: b"{" + b",".join(b'"k%d":0' % n for n in range(1_000_000)) + b"}", {200, 400}),
    "a million times the same member": (lambda: b"{" + b",".join([b'"source":"a=1"'] * 1_000_000) + b"}", {200, 400}),
    "ten million numbers": (lambda: b'{"source":"a=1","x":[' + b"0," * 10_000_000 + b"0]}", {200, 400}),
    "a number of a million digits": (lambda: b'{"source":"a=1","x":' + b"9" * 1_000_000 + b"}", {200, 400}),
    "1e400": (lambda: b'{"source":"a=1","x":1e400}', {200, 400}),
    "an exponent of a million digits": (lambda: b'{"source":"a=1","x":1e' + b"9" * 1_000_000 + b"}", {200, 400}),
    "NaN": (lambda: b'{"source":"a=1","x":NaN}', {200, 400}),  # as Python's json, which NEST Server reads with
    "Infinity": (lambda: b'{"source":"a=1","x":-Infinity}', {200, 400}),
    "bad UTF-8": (lambda: b'{"source":"\xff\xfe"}', {400}),
    "overlong UTF-8": (lambda: b'{"source":"\xc0\xaf"}', {400}),
    "half of a surrogate pair in UTF-8": (lambda: b'{"source":"\xed\xa0\x80"}', {400}),
    "a control character in a text": (lambda: b'{"source":"a\x01"}', {400}),
    "a NUL after the end": (lambda: b'{"source":"a=1"}\0', {400}),
    "two documents": (lambda: b'{"source":"a=1"}{"source":"a=2"}', {400}),
    "a byte order mark": (lambda: b'\xef\xbb\xbf{"source":"a=1"}', {200, 400}),
    "a comment": (lambda: b'{"source":"a=1"/**/}', {400}),
    "a comma too many": (lambda: b'{"source":"a=1",}', {400}),
    "UTF-16": (lambda: '{"source":"a=1"}'.encode("utf-16"), {400}),
}


@pytest.mark.parametrize("path", ["exec", "session", "create"])
@pytest.mark.parametrize("name", BOMBS)
def test_json_bombs(server, session, name, path):
    make, statuses = BOMBS[name]
    body = make()
    target = {"exec": "/exec", "session": session.path + "/exec", "create": "/v1/sessions"}[path]
    before, began = peak_kib(server), time.monotonic()
    try:
        answer = server.client().request("POST", target, body=body, headers={"Content-Type": "application/json"})
        status = answer.status
    except (BrokenPipeError, ConnectionResetError):  # refused while it was still being sent
        answer, status = "", 413
    grown = peak_kib(server) - before
    print("%s to %s: %s after %.0f ms, peak memory %+d KiB for %d KiB" % (name, target, status, 1000 * (time.monotonic() - began), grown, len(body) // 1024))
    assert status in (statuses if path != "create" else {400, 413}), answer
    assert grown <= 2.5 * len(body) / 1024 + 8192
    assert session.value("a = 6 * 7", "a") == 42


def test_duplicate_members_mean_one_thing(session):
    """The last one counts, as in Python's json; the server's own reading and the worker's must agree."""
    answer = session.client.request("POST", session.path + "/exec", body='{"source":"a=1","source":"a=2","return":"a"}', headers={"Content-Type": "application/json"})
    assert answer.status == 400 or answer.json()["data"] == 2, answer
