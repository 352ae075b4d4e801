"""The client's half of RFC 6455 over a connection of the transport. No extensions; messages of the server up to 256 MiB."""

import base64
import email.parser
import hashlib
import os
import socket
import struct

from .errors import UnreachableError
from .transport import Answer, failure

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE = 256 << 20
_CONTINUE, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class Closed(Exception):
    """The connection is over: ``code`` is what the peer gave (1006: it gave none)."""

    def __init__(self, code=1006, reason=""):
        super().__init__("the connection was closed (%d%s)" % (code, ": " + reason if reason else ""))
        self.code, self.reason = code, reason


class WebSocket:
    """``send`` takes text; ``receive`` gives str or bytes. One thread sends and one receives at a time."""

    def __init__(self, transport, path):
        self._connection = transport.connect()
        self._socket = self._connection.sock
        self._buffer = bytearray()
        self._message, self._kind = bytearray(), None  # of a message whose last frame has not come yet
        self._open = True
        try:
            self._handshake(transport, path)
        except OSError as error:
            self._drop()
            raise transport.unreachable(error) from error
        except BaseException:
            self._drop()
            raise

    def _handshake(self, transport, path):
        key = base64.b64encode(os.urandom(16))
        headers = transport.headers({"Host": transport.authority, "Upgrade": "websocket", "Connection": "Upgrade",
                                     "Sec-WebSocket-Key": key.decode(), "Sec-WebSocket-Version": "13"})
        lines = ["GET %s%s HTTP/1.1" % (transport.prefix, path)] + ["%s: %s" % item for item in headers.items()]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > 1 << 16:
                break
            piece = self._socket.recv(4096)
            if not piece:
                raise ConnectionResetError("the connection was closed")
            self._buffer += piece
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        first, _, fields = head.decode("latin-1").partition("\r\n")
        if not first.startswith("HTTP/1.") or len(first.split()) < 2 or not first.split()[1].isdigit():
            raise UnreachableError("%s does not speak HTTP; is it a Myelin server?" % transport.where)
        status, headers = int(first.split()[1]), email.parser.Parser().parsestr(fields)
        if status != 101:
            size = min(int(headers.get("Content-Length") or 0), 1 << 20)
            while len(rest) < size:
                piece = self._socket.recv(65536)
                if not piece:
                    break
                rest += piece
            if 200 <= status < 300:
                raise UnreachableError("%s does not speak WebSocket at this address; is a proxy in between?" % transport.where)
            raise failure(Answer(status, headers, rest))
        expected = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        if headers.get("Sec-WebSocket-Accept") != expected:
            raise UnreachableError("%s accepts a WebSocket that was not asked for; is a proxy in between?" % transport.where)
        self._buffer = bytearray(rest)

    def settimeout(self, seconds):
        self._socket.settimeout(seconds)

    def send(self, text):
        self._frame(_TEXT, text.encode())

    def ping(self):
        self._frame(_PING, b"")

    def _frame(self, opcode, data):
        if not self._open:
            raise Closed()
        size, mask = len(data), os.urandom(4)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
        try:
            self._socket.sendall(head + mask + masked)
        except OSError as error:
            self._drop()
            raise Closed(reason=str(error)) from error

    def receive(self):
        """The next message. Raises Closed at the end, socket.timeout where nothing came in time (and may be called again)."""
        while True:
            opcode, final, data = self._next_frame()
            if opcode == _PING:
                self._frame(_PONG, data)
            elif opcode == _CLOSE:
                code = struct.unpack(">H", data[:2])[0] if len(data) >= 2 else 1005
                if self._open:
                    try:
                        self._frame(_CLOSE, data[:2])
                    except Closed:
                        pass
                self._drop()
                raise Closed(code, data[2:].decode("utf-8", "replace"))
            elif opcode in (_TEXT, _BINARY, _CONTINUE):
                if (self._kind is None) == (opcode == _CONTINUE):
                    self._fail("a message inside of another")
                self._kind = self._kind or opcode
                if len(self._message) + len(data) > _MAX_MESSAGE:
                    self._fail("a message above 256 MiB")
                self._message += data
                if final:
                    message, kind, self._message, self._kind = self._message, self._kind, bytearray(), None
                    try:
                        return bytes(message) if kind == _BINARY else message.decode()
                    except UnicodeDecodeError:
                        self._fail("a text that is not UTF-8")
            elif opcode != _PONG:
                self._fail("an unknown frame")

    def _next_frame(self):
        # Nothing is taken from the buffer before the frame is whole: a timeout in between loses nothing.
        self._need(2)
        first, second = self._buffer[0], self._buffer[1]
        size, at = second & 0x7F, 2
        if first & 0x70 or second & 0x80:
            self._fail("a frame that no server sends")
        if size == 126:
            self._need(4)
            size, at = struct.unpack_from(">H", self._buffer, 2)[0], 4
        elif size == 127:
            self._need(10)
            size, at = struct.unpack_from(">Q", self._buffer, 2)[0], 10
        opcode, final = first & 0x0F, bool(first & 0x80)
        if size > _MAX_MESSAGE or (opcode >= 8 and (size > 125 or not final)):
            self._fail("a frame that is too large")
        self._need(at + size)
        data = bytes(memoryview(self._buffer)[at:at + size])
        del self._buffer[:at + size]
        return opcode, final, data

    def _need(self, size):
        while len(self._buffer) < size:
            if not self._open:
                raise Closed()
            try:
                piece = self._socket.recv(max(65536, min(size - len(self._buffer), 1 << 20)))
            except socket.timeout:
                raise
            except OSError as error:
                self._drop()
                raise Closed(reason=str(error)) from error
            if not piece:
                self._drop()
                raise Closed()
            self._buffer += piece

    def _fail(self, what):
        self.close(1002)
        raise Closed(1002, "the server sent " + what)

    def close(self, code=1000):
        """Says so and closes; harmless when it is closed already. Another thread's ``receive`` then ends with Closed."""
        if self._open:
            try:
                self._socket.settimeout(1.0)
                self._frame(_CLOSE, struct.pack(">H", code))
            except (Closed, OSError):
                pass
        self._drop()

    def _drop(self):
        self._open = False
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
        except OSError:
            pass
        self._connection.close()
