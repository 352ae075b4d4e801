"""TLS: what the server speaks with a certificate, and that it serves nothing in the clear to other machines without being told to."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from conftest import BINARY, wait_until


def certificate(folder, name="localhost"):
    """(certificate, key), signed by itself."""
    cert, key = folder / (name + ".pem"), folder / (name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=" + name,
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def served(module_server, files):
    return module_server(tls_cert=str(files[0]), tls_key=str(files[1]))


def trusting(files, **versions):
    context = ssl.create_default_context(cafile=str(files[0]))
    for name, value in versions.items():
        setattr(context, name, value)
    return context


def connect(served, files, **versions):
    connection = http.client.HTTPSConnection(*served.address, context=trusting(files, **versions), timeout=20)
    connection.connect()
    return connection


def ask(connection, method, path, body=None, **headers):
    connection.request(method, path, body=body, headers=dict(headers, NESTServerAuth="secret"))
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests(served, files, version):
    connection = connect(served, files, minimum_version=version, maximum_version=version)
    for _ in range(3):  # keep-alive
        assert ask(connection, "GET", "/v1/health")[0] == 200
    big = b'{"source": "x = 1", "more": "' + b"a" * 3_000_000 + b'"}'
    assert ask(connection, "POST", "/exec", big, **{"Content-Type": "application/json"})[0] in (200, 400)
    status, body, _ = ask(connection, "POST", "/exec", b'{"source": "a = list(range(300000))", "return": "a"}', **{"Content-Type": "application/json"})
    assert status == 200 and body.count(b",") > 299_000
    connection.close()


def test_old_versions_and_plain_http_are_refused(served, files):
    context = trusting(files)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(served.address, 5) as raw:
        context.wrap_socket(raw, server_hostname="localhost")
    with socket.create_connection(served.address, 5) as raw:
        raw.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in raw.recv(1000)


def test_the_cookie_and_links_are_for_https(served, files):
    connection = connect(served, files)
    status, body, _ = ask(connection, "GET", "/v1/auth/methods")
    assert status == 200 and b'"cookie":true' in body
    status, _, answer = ask(connection, "GET", "/", Accept="text/html")
    assert status == 302


def test_both_clients_trust_who_is_named(served, files):
    known = dict(os.environ, MYELIN_URL="https://localhost:%d" % served.address[1], MYELIN_TOKEN="secret", PYTHONPATH=str(BINARY.parent.parent / "python"))
    python = [sys.executable, "-c", "import myelin; print(myelin.Client().sessions())"]
    for command in ([str(BINARY), "sessions"], python):
        for trusted in (True, False):
            done = subprocess.run(command, env=dict(known, SSL_CERT_FILE=str(files[0])) if trusted else known, capture_output=True, text=True, timeout=60)
            assert (done.returncode == 0) == trusted, done
            assert trusted or "certificate" in done.stderr, done.stderr


def test_a_stream_of_events_and_a_hang_up(served, files):
    connection = connect(served, files)
    session = ask(connection, "POST", "/v1/sessions", b'{"engine": "python"}', **{"Content-Type": "application/json"})[1].decode().split('"')[3]
    stream = connect(served, files)
    stream.request("GET", "/v1/sessions/%s/stream" % session, headers={"Accept": "text/event-stream", "NESTServerAuth": "secret"})
    events = stream.getresponse()
    assert events.status == 200 and events.readline()
    stream.close()
    assert ask(connection, "GET", "/v1/health")[0] == 200


def test_handshakes_that_never_end_stall_nobody(served, files):
    stuck = [socket.create_connection(served.address, 5) for _ in range(200)]
    began = time.monotonic()
    assert ask(connect(served, files), "GET", "/v1/health")[0] == 200
    assert time.monotonic() - began < 5
    stuck[0].settimeout(15)
    assert stuck[0].recv(10) == b""  # after 10 s
    for one in stuck:
        one.close()


def test_many_at_once(served, files):
    wrong = []

    def some():
        try:
            connection = connect(served, files)
            for _ in range(20):
                if ask(connection, "GET", "/v1/health")[0] != 200:
                    wrong.append("status")
        except OSError as error:
            wrong.append(error)

    threads = [threading.Thread(target=some) for _ in range(16)]
    [one.start() for one in threads]
    [one.join(60) for one in threads]
    assert not wrong


def test_a_renewed_certificate_is_read_at_sighup(make_server, tmp_path):
    cert, key = certificate(tmp_path, "first")
    server = make_server(tls_cert=str(cert), tls_key=str(key))
    seen = lambda: ssl.get_server_certificate(server.address)  # noqa: E731
    first = seen()
    good = cert.read_bytes()
    cert.write_text("nonsense")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "could not be read again" in server.log_text(), "the complaint")
    assert seen() == first
    cert.write_bytes(good)
    other, other_key = certificate(tmp_path, "second")
    os.replace(other, cert), os.replace(other_key, key)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: seen() != first, "the new certificate")


@pytest.mark.parametrize("settings, said", [
    ({"tls_cert": "CERT"}, "set tls_key too"), ({"tls_key": "KEY"}, "set tls_cert too"),
    ({"tls_cert": "/nowhere", "tls_key": "KEY"}, "/nowhere"), ({"tls_cert": "CERT", "tls_key": "OTHER"}, "tls_key"), ({"tls_cert": "KEY", "tls_key": "KEY"}, "tls_cert"),
])
def test_wrong_files_are_named(files, tmp_path, settings, said):
    _, other = certificate(tmp_path, "other")
    named = {"CERT": str(files[0]), "KEY": str(files[1]), "OTHER": str(other)}
    flags = [part for name, value in settings.items() for part in ("--" + name.replace("_", "-"), named.get(value, value))]
    done = subprocess.run([str(BINARY), "serve", "--port", "0", "--data", str(tmp_path / "d"), *flags], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and said in done.stdout + done.stderr


def test_plain_http_to_others_is_refused(tmp_path):
    command = [str(BINARY), "serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "d")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "tls_cert" in said and "allow_plain_http" in said and "public_url" in said


