"""HTTP/1.1 for the native client: kept connections over TCP, TLS or a Unix socket; threads may share one transport."""

import http.client
import json
import os
import socket
import ssl
import threading
import urllib.parse

from . import cbor
from .errors import DeadlineError, UnreachableError, problem
from .nest import _is_stale, _plain

DEFAULT_URL = "http://127.0.0.1:52425"
_IDLE_CONNECTIONS = 8


class Answer:
    def __init__(self, status, headers, data):
        self.status, self.headers, self.data = status, headers, data

    def value(self):
        """What the body holds by its type: CBOR and JSON decoded, else text."""
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        try:
            if kind == "application/cbor":
                return cbor.loads(self.data)
            if kind == "application/json" or kind.endswith("+json"):
                return json.loads(self.data) if self.data else None
        except ValueError as error:
            raise UnreachableError("the answer can't be read: %s" % error, status=self.status) from error
        return self.data.decode("utf-8", "replace")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


class Transport:
    def __init__(self, url, token, socket_path, timeout):
        url = (url or DEFAULT_URL).rstrip("/")
        if url.startswith("unix:"):
            socket_path, url = socket_path or url[5:], "http://localhost"
        parts = urllib.parse.urlsplit("http://localhost" if socket_path else url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http address: %r; give http://HOST:PORT, or unix:PATH" % url)
        self.where = "unix:%s" % socket_path if socket_path else "%s://%s%s" % (parts.scheme, parts.netloc.rpartition("@")[2], parts.path)
        self.host, self.port, self.tls = parts.hostname, parts.port, parts.scheme == "https"
        self.authority, self.prefix = parts.netloc.rpartition("@")[2], parts.path
        self.token, self.socket_path, self.timeout = token, os.fspath(socket_path) if socket_path else None, timeout
        self._idle, self._lock = [], threading.Lock()

    def connect(self):
        """A new connection, ready for bytes."""
        if self.socket_path:
            connection = _UnixConnection(self.socket_path, self.timeout)
        else:
            kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
            connection = kind(self.host, self.port, timeout=self.timeout)
        try:
            connection.connect()
        except (OSError, ssl.SSLError) as error:
            raise self.unreachable(error) from error
        if not self.socket_path:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A simulation of hours sends nothing meanwhile; without this a router in between forgets the connection.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def unreachable(self, error):
        if isinstance(error, socket.timeout):
            return DeadlineError("no answer from %s within %s s; the call may still run" % (self.where, self.timeout))
        return UnreachableError("no answer from %s: %s; is it running (`myelin serve`)? Another place is given by url=, socket= or MYELIN_URL"
                                % (self.where, error or type(error).__name__))

    def headers(self, more=None):
        headers = {"Accept": "application/cbor, application/json;q=0.9"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        headers.update(more or {})
        return headers

    def request(self, method, path, content=None, headers=None, body=None, into=None):
        """The answer to one request; an exception for any but a 2xx. ``content`` is sent as JSON, ``body`` (bytes or an open file) as it is.
        With ``into``, a binary file, the answer's body is written there."""
        headers = self.headers(headers)
        if content is not None:
            body = json.dumps(content, default=_plain).encode()
            headers["Content-Type"] = "application/json"
        elif body is None and method in ("POST", "PUT", "PATCH"):
            body = b""
        connection = None
        try:
            connection, response = self._send(method, self.prefix + path, body, headers)
            if into is not None and 200 <= response.status < 300:
                while True:
                    piece = response.read(1 << 20)
                    if not piece:
                        break
                    into.write(piece)
                data = b""
            else:
                data = response.read()
            if response.will_close:
                connection.close()
            else:
                self._keep(connection)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise self.unreachable(error) from error
        except BaseException:
            # Interrupted between request and answer: the connection holds an answer that nobody waits for.
            if connection is not None:
                connection.close()
            raise
        answer = Answer(response.status, response.headers, data)
        if 200 <= response.status < 300:
            return answer
        raise failure(answer)

    def _send(self, method, path, body, headers):
        connection = self._take()
        fresh = connection is None
        try:
            connection = connection or self.connect()
            connection.request(method, path, body, headers)
            return connection, connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()
            if fresh or method not in ("GET", "HEAD"):
                raise  # it may have run
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        connection = self.connect()
        try:
            connection.request(method, path, body, headers)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _take(self):
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _is_stale(connection):  # else the server closed it while it was idle; nothing was sent on it yet
                return connection
            connection.close()

    def _keep(self, connection):
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def __del__(self):
        for connection in self.__dict__.get("_idle", ()):
            connection.close()

    def close(self):
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def failure(answer):
    """The exception for an answer that is no success."""
    try:
        retry_after = float(answer.headers.get("Retry-After") or "")
    except ValueError:
        retry_after = None
    return problem(answer.value(), answer.status, retry_after)


def quoted(part):
    return urllib.parse.quote(str(part), safe="")


def quoted_path(path):
    """Of files: slashes stay."""
    return "/".join(quoted(part) for part in str(path).strip("/").split("/"))
