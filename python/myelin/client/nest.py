"""``NESTServerClient``: the client that NEST Server documents, plus a token, errors that are raised, and arrays as numpy."""

import http.client
import json
import socket
import ssl
import threading
import urllib.parse

from . import cbor

__all__ = ["BadRequest", "NESTServerClient", "NESTServerError"]

_ACCEPT = "application/cbor, application/json;q=0.9, text/plain;q=0.5"


class NESTServerError(Exception):
    """The server answered with an error.

    ``status``: the HTTP status, or None when there was no answer at all. ``message``: what went wrong, in the engine's words.
    ``line_number``: the line of the script, where it is known.
    """

    def __init__(self, status, message, line_number=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.line_number = line_number


class BadRequest(NESTServerError):
    """A 400: the call or the script was wrong, or the kernel refused it."""


class NESTServerClient:
    """Any attribute is a call: ``client.Create("iaf_psc_alpha", 3)`` runs ``nest.Create`` on the server.

    ``url``: the whole address, with a path prefix where there is one (``http://host:52425/s/mine``); it replaces ``host`` and
    ``port``. ``token``: sent as NESTServerAuth. ``session``: the name of the kernel to use, as ``/s/<session>`` does.
    ``timeout``: seconds to wait for an answer; None, the default, waits as long as the simulation takes.

    One connection is kept open. Threads may share a client: their calls run one after the other, which is what the kernel does
    anyhow. A call is never sent twice if the server may have begun it.
    """

    def __init__(self, host="localhost", port=52425, token=None, url=None, session=None, timeout=None):
        url = (url or "http://%s:%d" % ("[%s]" % host if ":" in host else host, port)).rstrip("/")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http address: %r" % url)
        path = parts.path
        if session is not None:
            path += "/s/" + urllib.parse.quote(session, safe="")
        self.url = "%s://%s%s" % (parts.scheme, parts.netloc.rpartition("@")[2], path)
        self._scheme, self._host, self._port, self._path = parts.scheme, parts.hostname, parts.port, path
        self._headers = {"Accept": _ACCEPT}
        if token is not None:
            self._headers["NESTServerAuth"] = token
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection = None

    def __repr__(self):
        return "NESTServerClient(url=%r)" % self.url

    def __getattr__(self, call):
        if call.startswith("_"):
            # Copying, pickling and notebooks probe for such names; none is a call of NEST.
            raise AttributeError(call)

        def method(*args, **kwargs):
            if "args" in kwargs:
                raise TypeError("positional arguments are passed as such, not as args=")
            return self._request("POST", "/api/" + urllib.parse.quote(call), dict(kwargs, args=list(args)))

        method.__name__ = method.__qualname__ = call
        return method

    def exec_script(self, source, return_vars=None):
        """Runs a Python script on the server. Returns a dict with ``data`` (the variables named in ``return_vars``: a name, or a
        list of names) and, when the script printed something, ``stdout``."""
        return self._request("POST", "/exec", {"source": source, "return": return_vars})

    def from_file(self, filename, return_vars=None):
        """Runs the script in the local file ``filename``; else as exec_script."""
        with open(filename, encoding="utf-8") as file:
            return self.exec_script(file.read(), return_vars)

    def version(self):
        """What the server says about itself: a dict with ``nest`` and ``mpi``."""
        return self._request("GET", "/")

    def close(self):
        """Closes the connection; the next call opens another."""
        with self._lock:
            self._drop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _drop(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self):
        kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A simulation of hours sends nothing meanwhile; without this a router in between forgets the connection.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _request(self, method, path, content=None):
        headers, body = dict(self._headers), None
        if content is not None:
            body = json.dumps(content, default=_plain).encode()
            headers["Content-Type"] = "application/json"
        with self._lock:
            try:
                response = self._send(method, self._path + path, body, headers)
                data = response.read()
                if response.will_close:
                    self._drop()
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                self._drop()
                raise NESTServerError(None, "no answer from %s: %s" % (self.url, error or type(error).__name__)) from error
            except BaseException:
                # Interrupted between request and answer: the connection holds an answer that nobody waits for.
                self._drop()
                raise
        return _result(response, data)

    def _send(self, method, path, body, headers):
        if self._connection is not None and _is_stale(self._connection):
            # The server closed it while it was idle: nothing was sent on it yet, so a new one is safe for any call.
            self._drop()
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, path, body, headers)
        try:
            return self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            if method != "GET":
                raise  # it may have run
            self._drop()
            self._connection = self._connect()
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()


def _is_stale(connection):
    """Whether the peer has closed this idle connection (or sent what nobody asked for)."""
    sock = connection.sock
    if sock is None:
        return True
    before = sock.gettimeout()
    try:
        sock.setblocking(False)
        try:
            # TLS sockets can't peek; reading is as good, as nothing may come on an idle connection.
            return len(sock.recv(1, 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_PEEK)) >= 0
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
    finally:
        try:
            sock.settimeout(before)
        except OSError:
            pass


def _plain(value):
    """What json can't write by itself: numpy arrays and scalars, ranges, sets."""
    for name in ("tolist", "item"):
        convert = getattr(value, name, None)
        if callable(convert):
            return convert()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError("%s can't be sent to the server" % type(value).__name__)


def _result(response, data):
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if 200 <= response.status < 300:
        try:
            if kind == "application/cbor":
                return cbor.loads(data)
            return json.loads(data) if data else None
        except ValueError as error:
            raise NESTServerError(response.status, "the answer can't be read: %s" % error) from error
    message, line = data.decode("utf-8", "replace").strip(), None
    try:
        answer = cbor.loads(data) if kind == "application/cbor" else json.loads(data)
        if isinstance(answer, dict):
            message = str(answer.get("message") or answer.get("detail") or answer.get("title") or message)
            line = answer.get("lineNumber")
    except ValueError:
        pass
    kind_of_error = BadRequest if response.status == 400 else NESTServerError
    raise kind_of_error(response.status, message or "HTTP status %d" % response.status, line)
