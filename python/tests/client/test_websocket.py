"""The WebSocket client against a peer that breaks the rules, byte by byte. What follows them is in tests/client."""

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading

import pytest

from myelin.client import errors
from myelin.client.transport import Transport
from myelin.client.websocket import Closed, WebSocket


@contextlib.contextmanager
def peer(*pieces, accept=None, answer=None):
    """Accepts one WebSocket and sends `pieces` (bytes; None waits for a frame of the client). Gives a transport, and what came."""
    received = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                received.extend(head)
                key = re.search(rb"Sec-WebSocket-Key: (\S+)", head).group(1)
                proof = accept or base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                connection.sendall(answer or b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nsec-websocket-accept: " + proof + b"\r\n\r\n")
                for piece in pieces:
                    if piece is None:
                        received.extend(connection.recv(4096))
                    else:
                        connection.sendall(piece)
                while data := connection.recv(4096):
                    received.extend(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Transport("http://127.0.0.1:%d" % listener.getsockname()[1], "t", None, 30), received
    finally:
        listener.close()
        thread.join(30)


def frame(opcode, data=b"", final=True, size=None):
    size = len(data) if size is None else size
    head = bytes([opcode | 0x80 * final])
    head += bytes([size]) if size < 126 else struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)
    return head + data


def test_messages_of_all_lengths_whole_and_in_pieces():
    texts = ["", "ü", "a" * 125, "b" * 126, "c" * 65535, "d" * 70000]
    sent = b"".join(frame(1, t.encode()) for t in texts)
    with peer(sent[:1], sent[1:200], sent[200:]) as (transport, _):
        ws = WebSocket(transport, "/x")
        assert [ws.receive() for _ in texts] == texts
        ws.close()
    with peer(frame(2, b"ab", False) + frame(9, b"?") + frame(0, b"cd", False), frame(0, b"ef")) as (transport, received):
        ws = WebSocket(transport, "/x")
        assert ws.receive() == b"abcdef"
        ws.close()
        ws.close()
    assert b"Authorization: Bearer t" in received


def test_a_timeout_in_the_middle_of_a_message_loses_nothing():
    with peer(frame(1, b"ab", False), b"\x80\x02c", None, b"d") as (transport, _):
        ws = WebSocket(transport, "/x")
        ws.settimeout(0.1)
        with pytest.raises(socket.timeout):
            ws.receive()
        ws.settimeout(30)
        ws.ping()
        assert ws.receive() == "abcd"
        ws.close()


def test_a_close_is_answered_and_told():
    with peer(frame(8, struct.pack(">H", 1001) + b"bye")) as (transport, received):
        ws = WebSocket(transport, "/x")
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert (closed.value.code, closed.value.reason) == (1001, "bye")
        with pytest.raises(Closed):
            ws.send("x")
    assert received[-8:-6] == b"\x88\x82", "a masked close"


@pytest.mark.parametrize("bad", [
    frame(1, b"\xff"), frame(3, b""), frame(0, b"x"), frame(1, b"a", False) + frame(1, b"b"), frame(9, b"x", False),
    b"\xc1\x00", b"\x81\x80\x00\x00\x00\x00", frame(2, b"", size=1 << 40), frame(9, b"x" * 126)], ids=range(9))
def test_what_breaks_the_rules_ends_the_connection(bad):
    with peer(bad) as (transport, _):
        ws = WebSocket(transport, "/x")
        with pytest.raises(Closed) as closed:
            ws.receive()
        assert closed.value.code == 1002


def test_refusals_are_errors_of_the_api():
    problem = b'{"status":409,"code":"conflict","detail":"not now"}'
    head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n" % len(problem)
    with peer(answer=head + problem) as (transport, _), pytest.raises(errors.ConflictError, match="not now"):
        WebSocket(transport, "/x")
    with peer(accept=b"bm9uc2Vuc2U=") as (transport, _), pytest.raises(errors.UnreachableError):
        WebSocket(transport, "/x")
    with peer(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (transport, _), pytest.raises(errors.UnreachableError):
        WebSocket(transport, "/x")
    with peer(answer=b"SSH-2.0-x\r\n\r\n") as (transport, _), pytest.raises(errors.UnreachableError):
        WebSocket(transport, "/x")
