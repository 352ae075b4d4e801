"""The client's behaviour that a healthy server never shows: faults, odd bytes, missing numpy. The rest is in tests/compat."""

import array
import http.server
import importlib
import json
import struct
import sys
import threading

import cbor2
import pytest

from myelin.client import BadRequest, NESTServerClient, NESTServerError, cbor


class Stub:
    """Answers each request by the next of `answers` (status, headers, body) or None, which drops the connection."""

    def __init__(self, *answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                stub.connections += 1
                super().setup()

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stub.requests.append((self.command, self.path, dict(self.headers), body))
                answer = stub.answers.pop(0)
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if headers.get("X-Drop"):
                    self.close_connection = True

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


JSON = {"Content-Type": "application/json"}
CBOR = {"Content-Type": "application/cbor"}


def test_sends_what_the_documentation_says():
    numpy = pytest.importorskip("numpy")
    with Stub((200, JSON, b"[1,2]"), (200, JSON, b'{"data":1,"stdout":"x\\n"}')) as stub:
        client = NESTServerClient(url=stub.url, token="t", session="a b")
        assert client.Create("iaf_psc_alpha", numpy.int64(2), params={"V_m": numpy.array([1.0, 2.0])}) == [1, 2]
        assert client.exec_script("a=1", "a") == {"data": 1, "stdout": "x\n"}
        (method, path, headers, body), (_, exec_path, _, exec_body) = stub.requests
        assert (method, path) == ("POST", "/s/a%20b/api/Create")
        assert headers["NESTServerAuth"] == "t" and headers["Content-Type"] == "application/json"
        assert json.loads(body) == {"args": ["iaf_psc_alpha", 2], "params": {"V_m": [1.0, 2.0]}}
        assert exec_path == "/s/a%20b/exec" and json.loads(exec_body) == {"source": "a=1", "return": "a"}
        assert stub.connections == 1


def test_errors_are_raised_with_text_and_line():
    with Stub(
        (400, JSON, b'{"lineNumber":3,"message":"ZeroDivisionError at line 3: division by zero"}'),
        (403, {"Content-Type": "text/html"}, b"Unauthorized"),
        (410, {"Content-Type": "application/problem+json"}, b'{"title":"gone","detail":"killed by signal 9"}'),
        (200, JSON, b"[1,"),
    ) as stub:
        client = NESTServerClient(url=stub.url)
        with pytest.raises(BadRequest) as error:
            client.exec_script("\n\n1/0")
        assert (error.value.status, error.value.line_number) == (400, 3) and "division by zero" in str(error.value)
        with pytest.raises(NESTServerError, match="Unauthorized") as error:
            client.ResetKernel()
        assert error.value.status == 403 and not isinstance(error.value, BadRequest)
        with pytest.raises(NESTServerError, match="signal 9"):
            client.ResetKernel()
        with pytest.raises(NESTServerError, match="can't be read"):
            client.ResetKernel()


def test_a_call_that_may_have_run_is_never_repeated():
    with Stub(None, (200, JSON, b"null")) as stub:
        client = NESTServerClient(url=stub.url)
        with pytest.raises(NESTServerError) as error:
            client.Simulate(1.0)
        assert error.value.status is None
        assert len(stub.requests) == 1
        assert client.Simulate(1.0) is None


def test_a_get_is_repeated_once():
    with Stub(None, (200, JSON, b'{"nest":"3.10.0","mpi":false}')) as stub:
        assert NESTServerClient(url=stub.url).version()["nest"] == "3.10.0"
        assert len(stub.requests) == 2


def test_an_idle_connection_that_was_closed_is_replaced():
    with Stub((200, dict(JSON, **{"X-Drop": "1"}), b"1"), (200, JSON, b"2")) as stub:
        client = NESTServerClient(url=stub.url)
        assert client.NumProcesses() == 1
        for _ in range(100):  # until the close has arrived
            if client._connection is None or importlib.import_module("myelin.client.nest")._is_stale(client._connection):
                break
            threading.Event().wait(0.05)
        assert client.NumProcesses() == 2
        assert stub.connections == 2


def test_threads_share_a_client():
    with Stub(*[(200, JSON, b"%d" % i) for i in range(40)]) as stub:
        client, seen = NESTServerClient(url=stub.url), []
        threads = [threading.Thread(target=lambda: seen.extend(client.NumProcesses() for _ in range(10))) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert sorted(seen) == list(range(40)) and stub.connections == 1


def test_no_server():
    with pytest.raises(NESTServerError) as error:
        NESTServerClient(port=1).ResetKernel()
    assert error.value.status is None
    with pytest.raises(ValueError):
        NESTServerClient(url="ftp://x")


TYPED = cbor2.dumps({
    "times": cbor2.CBORTag(86, struct.pack("<3d", 0.5, 1.5, 2.5)),
    "senders": cbor2.CBORTag(79, struct.pack("<3q", 1, -2, 3)),
    "square": cbor2.CBORTag(40, [[2, 3], cbor2.CBORTag(70, struct.pack("<6I", *range(6)))]),
    "big": 10**25, "negative": -(10**25), "half": 1.5, "none": None, "text": "é", "yes": True, "bytes": b"x", "n": [-1, 2**63],
})


def check_typed(value):
    assert list(value["times"]) == [0.5, 1.5, 2.5]
    assert list(value["senders"]) == [1, -2, 3]
    assert [list(row) for row in value["square"]] == [[0, 1, 2], [3, 4, 5]]
    assert (value["big"], value["negative"], value["half"], value["none"]) == (10**25, -(10**25), 1.5, None)
    assert (value["text"], value["yes"], value["bytes"], value["n"]) == ("é", True, b"x", [-1, 2**63])


def test_cbor_arrays_are_numpy():
    numpy = pytest.importorskip("numpy")
    value = cbor.loads(TYPED)
    check_typed(value)
    assert value["times"].dtype == numpy.float64 and value["senders"].dtype == numpy.int64
    assert value["square"].shape == (2, 3)
    with Stub((200, CBOR, TYPED)) as stub:
        check_typed(NESTServerClient(url=stub.url).GetStatus([1], "events"))


def test_cbor_without_numpy(monkeypatch):
    monkeypatch.setattr(cbor, "numpy", None)
    value = cbor.loads(TYPED)
    check_typed(value)
    assert isinstance(value["times"], array.array)
    assert cbor.loads(cbor2.dumps(cbor2.CBORTag(82, struct.pack(">2d", 1.0, -0.5)))).tolist() == [1.0, -0.5]
    assert cbor.loads(cbor2.dumps(cbor2.CBORTag(1040, [[2, 2], [1, 2, 3, 4]]))) == [[1, 3], [2, 4]]


def test_cbor_indefinite_lengths():
    assert cbor.loads(bytes.fromhex("9f0102ff")) == [1, 2]
    assert cbor.loads(bytes.fromhex("bf6161 01ff".replace(" ", ""))) == {"a": 1}
    assert cbor.loads(bytes.fromhex("7f61616162ff")) == "ab"


def test_malformed_cbor_is_a_value_error():
    for size in range(len(TYPED)):
        with pytest.raises(ValueError):
            cbor.loads(TYPED[:size])
    for bad in ("", "ff", "1c", "9bffffffffffffffff", "bbffffffffffffffff", "f818", "0000", "d84f01", "81" * 2000 + "00", "61ff"):
        with pytest.raises(ValueError):
            cbor.loads(bytes.fromhex(bad))
    import random
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(2000):
        mutated = bytearray(TYPED)
        for _ in range(rng.randrange(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        try:
            cbor.loads(bytes(mutated))
        except ValueError:
            pass


def test_import_needs_the_standard_library_only():
    import subprocess
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('numpy', 'requests', 'cbor2'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import myelin.client\n"
        "assert myelin.client.cbor.numpy is None\n"
    )
    root = __file__.rpartition("/python/tests/")[0] + "/python"
    subprocess.run([sys.executable, "-I", "-c", "import sys; sys.path.insert(0, %r)\n%s" % (root, code)], check=True)
