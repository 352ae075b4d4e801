"""`neuroapi init|run` and the users of an original database."""

import base64
import hashlib
import http.client
import os
import re
import sqlite3
import ssl
import subprocess

import pytest

from conftest import BINARY, Server
from neuroapi_exchange import GOOD, PASSWORD, SECRET, bearer, claims_of, sign


def passlib_hash(password, rounds=29000):
    salt = os.urandom(16)

    def text(data):
        return base64.b64encode(data).decode().rstrip("=").replace("+", ".")
    return "$pbkdf2-sha256$%d$%s$%s" % (rounds, text(salt), text(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)))


def original(path, *users):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE user (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(80) NOT NULL UNIQUE, email VARCHAR(80) NOT NULL UNIQUE, "
                     "password VARCHAR(255) NOT NULL, active BOOLEAN, CHECK (active IN (0, 1)))")
    database.executemany("INSERT INTO user VALUES (?, ?, ?, ?, ?)", users)
    database.commit()
    database.close()


@pytest.fixture
def command(data_root, _counter):
    folder = data_root / ("n%d" % next(_counter))
    (folder / "work").mkdir(parents=True)
    link = folder / "neuroapi"
    link.symlink_to(BINARY)

    class Command:
        data, work, program = folder / "data", folder / "work", [str(link)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MYELIN_", "NEST_SERVER_", "FLASK_"))
                       and k not in ("SECRET_KEY", "DATABASE_URI")}
        servers = []

        def __call__(self, *arguments, program=None, **variables):
            return subprocess.run((program or self.program) + list(arguments), env=dict(self.environment, **variables), cwd=self.work, capture_output=True,
                                  text=True, timeout=60)

        def run(self, *arguments, **variables):
            server = Server(folder / "log", None, environment=dict(self.environment, **variables), command=["env", "-C", str(self.work), *self.program, "run", "-p", "0",
                                                                                                         *arguments])
            self.servers.append(server)
            return server

    one = Command()
    one.environment["MYELIN_DATA"] = str(one.data)
    yield one
    for server in one.servers:
        server.stop()


def login(client, name, password):
    return client.post("/auth/login", {"username": name, "password": password})


def test_init_and_run(command):
    first = command("init")
    assert first.returncode == 0 and first.stdout.startswith("create database\ndone\ncreate user\ncreated user admin\n"), first
    password = re.search(r"its password is (\S+)", first.stdout).group(1)
    assert password != "admin" and len(password) > 15
    again = command("init", program=[str(BINARY), "neuroapi"])
    assert again.returncode == 0 and again.stdout.startswith("create database\ndone\ncreate user\n") and password not in again.stdout
    server = command.run("--no-reload", "--with-threads", SECRET_KEY=SECRET)
    client = server.client()
    assert client.get("/").status == client.get("/v1/server").status == client.get("/app/").status == 404
    token = login(client, "admin", password).json()["access_token"]
    assert token == re.sub(r"[^.]*$", "", token) + sign_again(token)
    assert client.request("GET", "/api/v1/users", headers=bearer(token)).status == 403
    assert client.request("PUT", "/api/v1/users/1", headers=bearer(token), json_body={"password": PASSWORD}).status == 200
    assert client.request("GET", "/api/v1/users", headers=bearer(token)).json()["total"] == 1


def sign_again(token):
    import hmac
    return base64.urlsafe_b64encode(hmac.new(SECRET.encode(), token.rpartition(".")[0].encode(), hashlib.sha256).digest()).rstrip(b"=").decode()


def test_https(command):
    cert, key = command.work / "cert.pem", command.work / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    server = command.run("--cert", "cert.pem", "--key=key.pem")
    connection = http.client.HTTPSConnection(*server.address, context=ssl.create_default_context(cafile=str(cert)), timeout=30)
    connection.request("GET", "/swagger.json")
    assert server.url.startswith("https://") and connection.getresponse().status == 200


def test_a_secret_that_can_be_guessed(command):
    for arguments in (("init",), ("run", "-p", "0")):
        refused = command(*arguments, SECRET_KEY="changeme")
        assert refused.returncode == 1 and "SECRET_KEY has 8 bytes" in refused.stderr and "secrets.token_urlsafe" in refused.stderr, refused
    (command.work / ".flaskenv").write_text("FLASK_APP=neuroapi.app:create_app\nFLASK_ENV=development\nSECRET_KEY=changeme\n")
    assert command("init").returncode == 1
    assert command("init", SECRET_KEY=SECRET).returncode == 0, "a variable comes before the file"


def test_what_is_not_there(command):
    assert "No such command" in command("nonsense").stderr
    assert command("nonsense").returncode == 2
    assert command("shell").returncode == 1 and command("run", "--nonsense").returncode == 2
    assert "set tls_key too" in command("run", "--cert", "x").stderr and command("run", "--cert").returncode == 2
    refused = command("init", DATABASE_URI="postgresql://user:secret@host/db")
    assert refused.returncode == 1 and "not SQLite" in refused.stderr and "secret@" not in refused.stderr
    assert "/auth/login" in command("routes").stdout
    assert command("--version").stdout.startswith("myelin ")


def test_users_are_taken_over(command):
    original(command.work / "neuroapi.db", (1, "admin", "admin@mail.com", passlib_hash(PASSWORD), 1), (5, "anna", "anna@lab.example", passlib_hash(GOOD), 1),
             (6, "bob", "bob@lab.example", "in clear text", 1), (7, "carl", "carl@lab.example", passlib_hash(GOOD), 0))
    (command.work / ".flaskenv").write_text("DATABASE_URI=sqlite:///neuroapi.db\nFLASK_ENV=production\nSECRET_KEY='%s'\n" % SECRET)
    done = command("init")
    assert done.returncode == 0 and "took over 4 users" in done.stdout and "the password of bob" in done.stdout, done
    assert "in clear text" not in done.stdout and "there is an admin already" in done.stdout
    client = command.run().client()
    answer = login(client, "admin", PASSWORD)
    assert answer.status == 200 and answer.text.startswith('{"access_token":"ey'), "as in production"
    headers = bearer(answer.json()["access_token"])
    users = client.request("GET", "/api/v1/users", headers=headers)
    assert [(u["id"], u["username"], u["active"]) for u in users.json()["results"]] == [(1, "admin", True), (5, "anna", True), (6, "bob", True), (7, "carl", False)]
    assert users.text.startswith('{"total": 4, "pages": 1, ')
    anna = login(client, "anna", GOOD)
    assert claims_of(anna.json()["access_token"])["identity"] == 5
    assert client.request("GET", "/api/v1/users", headers=bearer(anna.json()["access_token"])).status == 403
    hashes = dict(sqlite3.connect("file:%s?mode=ro" % (command.data / "myelin.db"), uri=True).execute("SELECT username, password FROM users").fetchall())
    assert hashes["anna"].startswith("$argon2id$") and hashes["carl"].startswith("$pbkdf2-sha256$29000$") and hashes["bob"] == ""
    assert login(client, "anna", GOOD).status == 200
    for password in ("in clear text", "", "$"):
        assert login(client, "bob", password).status == 400
    assert login(client, "carl", GOOD).status == 403
    # A token that the old server issued has no row here.
    assert client.request("GET", "/api/v1/users", headers=bearer(sign(dict(claims_of(answer.json()["access_token"]), jti="0")))).status == 401
    assert client.request("PUT", "/api/v1/users/6", headers=headers, json_body={"password": GOOD}).status == 200
    assert login(client, "bob", GOOD).status == 200
    assert client.request("DELETE", "/api/v1/users/5", headers=headers).status == 200
    command.servers.pop().stop()
    assert "took over" not in command("init").stdout, "once for each file: who was deleted does not come back"
    client = command.run().client()
    assert client.request("GET", "/api/v1/users/5", headers=headers).status == 404


def test_the_password_that_everybody_knows(command):
    original(command.work / "neuroapi.db", (1, "admin", "admin@mail.com", passlib_hash("admin"), 1))
    done = command("init", DATABASE_URI="sqlite:///neuroapi.db")
    password = re.search(r"it is now (\S+) ", done.stdout).group(1)
    client = command.run().client()
    assert login(client, "admin", "admin").status == 400
    token = login(client, "admin", password).json()["access_token"]
    assert client.request("GET", "/api/v1/users/1", headers=bearer(token)).status == 403


def test_what_is_no_database_of_its(command):
    (command.work / "neuroapi.db").write_bytes(b"not a database at all" * 100)
    refused = command("init", DATABASE_URI="sqlite:///neuroapi.db")
    assert refused.returncode == 1 and "no database of NeuroAPI" in refused.stderr
