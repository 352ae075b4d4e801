"""Accounts on the running server: signing in, passwords, tokens, groups and grants, and what ends when a user does."""

import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import socket
import sqlite3
import statistics
import subprocess
import time
import urllib.parse

import pytest
from conftest import BINARY, Session, add_user, wait_until

PASSWORD = "correct horse battery"


class Desk:
    """A server with an admin whose password was chosen, and what tests do with users."""

    def __init__(self, server):
        self.server, self.operator = server, server.client()

    def user(self, name, role="member", password=PASSWORD):
        return add_user(self.server, name, role, password)

    def sign_in(self, name, password=PASSWORD, **more):
        return self.server.client(None).post("/v1/auth/sign-in", dict(more, username=name, password=password))

    def as_user(self, name, password=PASSWORD):
        answer = self.sign_in(name, password)
        assert answer.status == 200, answer
        return bearer(self.server, answer.json()["access_token"])

    def grant(self, grant, **holder):
        answer = self.operator.post("/v1/grants", dict(holder, grant=grant))
        assert answer.status == 201, answer
        return answer.json()["id"]


def bearer(server, token):
    return server.client(token)


@pytest.fixture(scope="module")
def desk(module_server):
    return Desk(module_server(admin_password=PASSWORD))


# ---- signing in


def test_first_start_prints_a_password_that_must_be_changed(make_server):
    server = make_server()
    line = wait_until(lambda: next((line for line in server.printed_lines() if line.startswith("sign in as admin")), None), "the password")
    password = re.search(r"the password (\S+);", line).group(1)
    desk = Desk(server)
    admin = desk.as_user("admin", password)
    refused = admin.get("/v1/sessions")
    assert refused.status == 403 and refused.json()["code"] == "password_change_required"
    for path, method in (("/api/", "GET"), ("/exec", "POST")):
        told = admin.request(method, path)
        assert told.status == 403 and told.text.startswith("Unauthorized: choose a password of your own first"), told
    assert server.client("wrong").post("/exec").text == "Unauthorized"
    assert admin.get("/v1/me").json()["must_change_password"] is True
    for weak in ("short", "password1", password):
        assert admin.post("/v1/auth/password", {"old": password, "new": weak}).status == 400
    assert admin.post("/v1/auth/password", {"old": "wrong", "new": PASSWORD}).status == 401
    assert admin.post("/v1/auth/password", {"old": password, "new": PASSWORD}).status == 204
    assert admin.get("/v1/sessions").status == 200 and admin.get("/v1/users").status == 200
    assert desk.sign_in("admin", password).status == 401
    assert password not in server.log_text()


def test_a_chosen_admin_password_is_final(desk):
    admin = desk.as_user("admin")
    assert admin.get("/v1/me").json()["must_change_password"] is False and admin.get("/v1/users").status == 200


def test_tokens_of_a_sign_in(desk):
    desk.user("tina")
    both = desk.sign_in("tina").json()
    client = bearer(desk.server, both["access_token"])
    assert client.get("/v1/me").json()["username"] == "tina"
    assert bearer(desk.server, both["refresh_token"]).get("/v1/me").status == 401  # of the wrong kind
    refresh = lambda token: desk.server.client(None).post("/v1/auth/refresh", {"refresh_token": token})  # noqa: E731
    newer = refresh(both["refresh_token"]).json()
    assert bearer(desk.server, newer["access_token"]).get("/v1/me").status == 200
    again = refresh(both["refresh_token"])  # somebody copied it
    assert again.status == 401 and again.json()["code"] == "token_reused"
    for token in (both["access_token"], newer["access_token"]):
        assert bearer(desk.server, token).get("/v1/me").status == 401
    assert refresh(newer["refresh_token"]).status == 401
    assert refresh(both["access_token"]).status == 401


def test_signing_out_ends_the_access_token(desk):
    desk.user("olga")
    client = desk.as_user("olga")
    assert client.post("/v1/auth/sign-out", {}).status == 204
    assert client.get("/v1/me").status == 401


def part(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_forged_tokens(desk):
    desk.user("felix")
    real = desk.sign_in("felix").json()["access_token"]
    head, claims, signature = real.split(".")
    none = part('{"typ":"JWT","alg":"none"}')
    other = part('{"typ":"JWT","alg":"HS512"}')
    signed = lambda key, text: base64.urlsafe_b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode().rstrip("=")  # noqa: E731
    forged = {
        "no signature": "%s.%s." % (head, claims),
        "alg none": "%s.%s." % (none, claims),
        "alg none, old signature": "%s.%s.%s" % (none, claims, signature),
        "another alg": "%s.%s.%s" % (other, claims, signature),
        "an empty key": "%s.%s.%s" % (head, claims, signed(b"", head + "." + claims)),
        "the usual key": "%s.%s.%s" % (head, claims, signed(b"changeme", head + "." + claims)),
        "other claims": "%s.%s.%s" % (head, part('{"sub":"u_0","type":"access","exp":9999999999}'), signature),
        "cut": real[:-1], "two parts": head + "." + claims, "four parts": real + ".x", "dots": "..", "spaces": " " + real + " x",
    }
    for name, token in forged.items():
        assert bearer(desk.server, token).get("/v1/me").status == 401, name
    assert bearer(desk.server, real).get("/v1/me").status == 200


def test_wrong_bodies_of_signing_in(desk):
    post = desk.server.client(None).post
    for body in ({}, {"username": "admin"}, {"username": "", "password": ""}, {"username": 1, "password": 2}, {"username": None, "password": None},
                 {"username": "admin", "password": PASSWORD, "more": 1}, [], "text", 7):
        assert post("/v1/auth/sign-in", body).status == 400, body
    odd = ["' OR 1=1 --", "admin\x00", "../../admin", "{{7*7}}", "a" * 5000, "admin'--", "%s%n", "\u202eadmin"]
    for name in odd:
        assert post("/v1/auth/sign-in", {"username": name, "password": "x" * 20}).status in (401, 429), name
    assert post("/v1/auth/sign-in", {"username": "admin2", "password": "y" * 100_000}).status == 413


def cookie_of(answer):
    return answer.headers["set-cookie"].split(";")[0]


def test_a_browsers_cookie(desk):
    desk.user("bella")
    answer = desk.sign_in("bella", cookie=True)
    assert answer.status == 200 and "access_token" not in answer.json()
    header = answer.headers["set-cookie"]
    assert header.startswith("__Host-myelin=") and all(word in header for word in ("Path=/;", "Secure", "HttpOnly", "SameSite=Strict"))
    host = "127.0.0.1:%d" % desk.server.address[1]
    nobody, cookie = desk.server.client(None), cookie_of(answer)
    own = {"Cookie": cookie, "Origin": "http://" + host}
    assert nobody.get("/v1/me", headers={"Cookie": cookie}).json()["username"] == "bella"
    # Changing something needs the page's own origin.
    make = lambda headers: nobody.post("/v1/sessions", {"engine": "python"}, headers=headers)  # noqa: E731
    assert make({"Cookie": cookie}).status == 403
    assert make({"Cookie": cookie, "Origin": "http://evil.example"}).status == 403
    assert make({"Cookie": cookie, "Origin": "null"}).status == 403
    assert make({"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}).status == 403
    made = make(own)
    assert made.status == 201 and made.json()["user"] == "bella"
    # Nor does another page read by it, not even one of another port of this host; a link opens what anybody may read.
    foreign = ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site"})
    for method in ("GET", "HEAD"):
        for more in foreign:
            assert nobody.request(method, "/v1/me", headers=dict(more, Cookie=cookie)).status == 403, (method, more)
    link = {"Cookie": cookie, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}
    assert nobody.get("/v1/me", headers=link).status == 403 and nobody.get("/v1/docs", headers=link).status == 200
    for more in (own, {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}, {"Cookie": cookie, "Sec-Fetch-Site": "none"}):
        assert nobody.get("/v1/me", headers=more).status == 200, more
    # It counts for /v1 only; and a wrong token beside it stays wrong.
    assert nobody.get("/api/", headers=own).status == 403
    assert nobody.post("/exec", {"source": "a=1"}, headers=own).status == 403
    assert nobody.get("/v1/me", headers=dict(own, Authorization="Bearer wrong")).status == 401
    assert nobody.post("/v1/auth/sign-out", {}, headers=own).status == 204
    assert nobody.get("/v1/me", headers={"Cookie": cookie}).status == 401


def test_over_plain_http_from_elsewhere_there_is_no_cookie(make_server):
    server = make_server(admin_password=PASSWORD, allowed_hosts=["lab.example"])
    nobody = server.client(None)
    assert nobody.get("/v1/auth/methods", headers={"Host": "lab.example"}).json()["cookie"] is False
    answer = nobody.post("/v1/auth/sign-in", {"username": "admin", "password": PASSWORD, "cookie": True}, headers={"Host": "lab.example"})
    assert answer.status == 400 and "https" in answer.json()["detail"]


def test_passwords_of_elsewhere_are_upgraded_and_new_ones_are_judged(desk):
    for weak in ("1234567", "password", "qwertyuiop", "wendy123"):
        answer = desk.operator.post("/v1/users", {"username": "wendy", "password": weak})
        assert answer.status == 400, (weak, answer)
    made = desk.operator.post("/v1/users", {"username": "wendy", "password": PASSWORD})
    assert made.status == 201 and made.json()["must_change_password"] is True
    wendy = desk.as_user("wendy")
    assert wendy.get("/v1/sessions").json()["code"] == "password_change_required"
    assert wendy.post("/v1/auth/password", {"old": PASSWORD, "new": "another horse altogether"}).status == 204
    assert wendy.get("/v1/sessions").status == 200


def test_a_reset_link_works_once(desk):
    desk.user("rita")
    old = desk.as_user("rita")
    link = desk.operator.post("/v1/users/rita/reset", {}).json()["link"]
    secret = link.partition("#reset=")[2]
    post = desk.server.client(None).post
    assert post("/v1/auth/reset", {"reset": secret, "new": "short"}).status == 400
    assert post("/v1/auth/reset", {"reset": secret, "new": "quite another password"}).status == 204
    assert post("/v1/auth/reset", {"reset": secret, "new": "yet another password"}).status == 401
    assert post("/v1/auth/reset", {"reset": "0" * 48, "new": "yet another password"}).status == 401
    assert old.get("/v1/me").status == 401  # the sign-ins of before are over
    assert desk.sign_in("rita", "quite another password").status == 200


# ---- guessing


def test_guesses_are_slowed_and_a_known_address_goes_on(make_server):
    server = make_server(admin_password=PASSWORD, trusted_proxies=["127.0.0.1"])
    desk = Desk(server)
    desk.user("anna")
    nobody = server.client(None)

    def attempt(address, password="guess", name="anna"):
        return nobody.post("/v1/auth/sign-in", {"username": name, "password": password}, headers={"X-Forwarded-For": address})

    assert attempt("192.0.2.1", PASSWORD).status == 200  # from now on known
    signed_in = bearer(server, attempt("192.0.2.1", PASSWORD).json()["access_token"])
    answers = [attempt("198.51.100.%d" % i) for i in range(40)]
    assert sum(a.status == 401 for a in answers) <= 10 and answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) > 0
    assert attempt("203.0.113.9", PASSWORD).status == 429  # the right password, from where nobody knows it
    assert attempt("192.0.2.1", PASSWORD).status == 200 and signed_in.get("/v1/me").status == 200
    # An address that is not a proxy's can't say who it speaks for.
    plain = make_server(admin_password=PASSWORD)
    tries = [plain.client(None).post("/v1/auth/sign-in", {"username": "admin", "password": "guess"},
                                     headers={"X-Forwarded-For": "198.51.100.%d" % i}) for i in range(12)]
    assert tries[-1].status == 429


class Guesser:
    """Many requests over one keep-alive connection, some in flight."""

    def __init__(self, server):
        self.socket = socket.create_connection(server.address)
        self.host = "127.0.0.1:%d" % server.address[1]
        self.reader = self.socket.makefile("rb")

    def send(self, name, address):
        body = json.dumps({"username": name, "password": "guess"})
        self.socket.sendall(("POST /v1/auth/sign-in HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Forwarded-For: %s\r\n"
                             "Content-Length: %d\r\n\r\n%s" % (self.host, address, len(body), body)).encode())

    def status(self):
        status = int(self.reader.readline().split()[1])
        length = 0
        while (line := self.reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.reader.read(length)
        return status


@pytest.mark.parametrize("addresses", [1, 1000])
def test_a_hundred_thousand_guesses(make_server, addresses):
    server = make_server(admin_password=PASSWORD, trusted_proxies=["127.0.0.1"])
    desk = Desk(server)
    desk.user("anna")
    known = server.client(None).post("/v1/auth/sign-in", {"username": "anna", "password": PASSWORD}, headers={"X-Forwarded-For": "203.0.113.7"})
    signed_in = bearer(server, known.json()["access_token"])

    def work(worker):
        guesser, counts, ahead = Guesser(server), {}, 0
        for i in range(25_000):
            guesser.send("anna", "10.0.%d.%d" % divmod((4 * i + worker) % addresses, 250))
            ahead += 1
            if ahead == 16:
                status = guesser.status()
                counts[status] = counts.get(status, 0) + 1
                ahead -= 1
        for _ in range(ahead):
            status = guesser.status()
            counts[status] = counts.get(status, 0) + 1
        return counts

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, i) for i in range(4)]
        while not all(r.done() for r in running):
            assert signed_in.get("/v1/me").status == 200
            time.sleep(0.5)
        counts = {}
        for r in running:
            for status, count in r.result().items():
                counts[status] = counts.get(status, 0) + count
    took = time.monotonic() - began
    print("100,000 guesses from %d addresses: %.0f s, %s" % (addresses, took, counts))
    assert sum(counts.values()) == 100_000 and set(counts) <= {401, 429}
    assert counts.get(401, 0) <= 10
    again = server.client(None).post("/v1/auth/sign-in", {"username": "anna", "password": PASSWORD}, headers={"X-Forwarded-For": "203.0.113.7"})
    assert again.status == 200, again


# What passlib and bcrypt make of PASSWORD; the latter quicker than usual.
ELSEWHERE = {"of_passlib": "$pbkdf2-sha256$29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw.qxtasIBS/3PnV5Q49G0",
             "of_bcrypt": "$2b$08$rwRD9sLljGvlz8JEmDQ.r.5e5eBZZdmiWS386/huEHQw1UbWjOQFW"}


def test_how_long_a_refusal_takes_tells_nothing(make_server, tmp_path):
    server = make_server(admin_password=PASSWORD, trusted_proxies=["127.0.0.1"])
    Desk(server).user("gone")
    assert server.client().request("PATCH", "/v1/users/gone", json_body={"active": False}).status == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.execute("CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT, email TEXT, password TEXT, active BOOLEAN)")
        old.executemany("INSERT INTO user (username, password, active) VALUES (?, ?, 1)", ELSEWHERE.items())
        old.commit()
    environment = dict(server.environment, MYELIN_DATA=str(server.data), DATABASE_URI="sqlite:///%s/old.db" % tmp_path)
    taken = subprocess.run([BINARY, "neuroapi", "init"], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert "took over 2 users" in taken.stdout, taken

    def attempt(name, password, address):
        began = time.monotonic()
        answer = server.client(None).post("/v1/auth/sign-in", {"username": name, "password": password}, headers={"X-Forwarded-For": address})
        return answer.status, time.monotonic() - began

    took = {name: [] for name in ("nobody", "admin", "gone", *ELSEWHERE)}
    for i in range(4):  # the guard lets five by
        for name, times in took.items():
            right = name == "gone" and i == 3
            status, seconds = attempt(name, PASSWORD if right else "guess", "192.0.2.%d" % i)
            assert status == (403 if right else 401), (name, status)
            times.append(seconds)
    assert all(min(times) >= 0.4 for times in took.values()), took
    unknown = statistics.median(took["nobody"])
    assert all(0.4 < statistics.median(times) / unknown < 2.5 for times in took.values()), took
    for name in ELSEWHERE:  # they are whom they seem
        assert attempt(name, PASSWORD, "192.0.2.99")[0] == 200, name


# ---- tokens with bounds, grants


def test_scopes_bound_a_token(desk):
    desk.user("theo")
    theo = desk.as_user("theo")
    one, other = Session(theo, "python"), Session(theo, "python")
    made = theo.post("/v1/tokens", {"name": "watch", "scopes": ["view:session:" + one.id]}).json()
    watch = bearer(desk.server, made["token"])
    assert watch.get("/v1/sessions/" + one.id).status == 200
    assert watch.post("/v1/sessions/%s/exec" % one.id, {"source": "a=1"}).status == 403
    assert watch.get("/v1/sessions/" + other.id).status == 403
    assert watch.post("/v1/tokens", {"name": "more"}).status == 403
    assert watch.post("/exec", {"source": "a=1"}).status == 403
    assert watch.request("PATCH", "/v1/me", json_body={"email": "x@y"}).status == 403
    assert theo.post("/v1/tokens", {"name": "watch"}).status == 409
    assert theo.post("/v1/tokens", {"name": "x", "scopes": ["fly:session:*"]}).status == 400
    assert theo.post("/v1/tokens", {"name": "x", "user": "admin"}).status == 403
    assert [t["name"] for t in theo.get("/v1/tokens").json()["tokens"]] == ["watch"]
    assert theo.request("DELETE", "/v1/tokens/" + made["id"]).status == 204
    assert watch.get("/v1/sessions/" + one.id).status == 401


def test_a_tokens_kernel_is_one_a_client(desk):
    desk.user("kim")
    kim = desk.as_user("kim")
    notebook = bearer(desk.server, kim.post("/v1/tokens", {"name": "notebook"}).json()["token"])
    desktop = bearer(desk.server, kim.post("/v1/auth/desktop", {}).json()["token"])
    assert notebook.call("Create", "iaf_psc_alpha", 3) and desktop.call("Create", "iaf_psc_alpha", 5)
    assert (notebook.call("GetKernelStatus", "network_size"), desktop.call("GetKernelStatus", "network_size")) == (3, 5)
    renewed = bearer(desk.server, kim.post("/v1/auth/desktop", {}).json()["token"])
    assert renewed.call("GetKernelStatus", "network_size") == 5  # another token, the same kernel
    assert desktop.get("/v1/runs").status == 403 and desktop.post("/v1/tokens", {"name": "x"}).status == 403


def test_what_was_granted(desk):
    desk.user("owen")
    desk.user("gina", role="guest")
    owen, gina = desk.as_user("owen"), desk.as_user("gina")
    session = Session(owen, "python")
    session.exec("x = 6")
    at = "/v1/sessions/" + session.id
    assert gina.get(at).status == 403 and gina.post("/v1/sessions", {"engine": "python"}).status == 403 and gina.get("/v1/files/").status == 403
    assert gina.post("/exec", {"source": "a=1"}).status == 403
    watch = desk.grant("view:session:" + session.id, user="gina")
    assert gina.get(at).status == 200 and gina.post(at + "/exec", {"source": "a=1"}).status == 403
    assert [s["id"] for s in gina.get("/v1/sessions").json()["sessions"]] == [session.id]
    assert desk.operator.post("/v1/groups", {"name": "course"}).status == 201
    assert desk.operator.request("PUT", "/v1/groups/course/members/gina").status == 204
    desk.grant("use:session:" + session.id, group="course")
    assert gina.post(at + "/exec", {"source": "a = x * 7", "return": "a"}).json()["data"] == 42
    assert gina.request("DELETE", at).status == 403
    assert desk.operator.request("DELETE", "/v1/groups/course/members/gina").status == 204
    assert gina.post(at + "/exec", {"source": "a=1"}).status == 403
    assert desk.operator.request("DELETE", "/v1/grants/" + watch).status == 204
    assert gina.get(at).status == 403 and owen.get(at).status == 200


def test_who_may_manage_users_makes_no_admins(desk):
    desk.user("mara")
    desk.grant("edit:user:*", user="mara")
    mara = desk.as_user("mara")
    assert mara.post("/v1/users", {"username": "new"}).status == 201
    assert mara.post("/v1/users", {"username": "boss", "role": "admin"}).status == 403
    assert mara.request("PATCH", "/v1/users/mara", json_body={"role": "admin"}).status == 403
    assert mara.request("PATCH", "/v1/users/admin", json_body={"active": False}).status == 403
    assert mara.post("/v1/users/admin/reset", {}).status == 403
    assert mara.post("/v1/grants", {"grant": "edit:*", "user": "mara"}).status == 403
    theirs = desk.grant("view:audit:*", user="mara")
    assert mara.request("DELETE", "/v1/grants/" + theirs).status == 403 and mara.request("DELETE", "/v1/grants/gr_0").status == 404
    assert desk.operator.request("DELETE", "/v1/grants/" + theirs).status == 204


def test_who_may_manage_groups_takes_no_rights_by_them(desk):
    nora = desk.user("nora")["id"]
    desk.grant("edit:group:*", user="nora")
    client = desk.as_user("nora")
    plain, strong = (client.post("/v1/groups", {"name": name}).json()["id"] for name in ("plain", "strong"))
    desk.grant("edit:session:*", group="strong")
    assert client.request("PUT", "/v1/groups/%s/members/%s" % (plain, nora)).status == 204
    assert client.request("PUT", "/v1/groups/%s/members/%s" % (strong, nora)).status == 403
    assert "edit:session:*" not in client.get("/v1/me").json()["grants"]
    assert desk.operator.request("PUT", "/v1/groups/%s/members/%s" % (strong, nora)).status == 204
    assert client.request("DELETE", "/v1/groups/%s/members/%s" % (strong, nora)).status == 204  # less is theirs to decide


# ---- ends


def test_a_deactivated_user_has_nothing_open_a_second_later(desk):
    user = desk.user("dora")
    desk.user("watcher")
    dora = desk.as_user("dora")
    session = Session(dora, "python")
    job = dora.post("/v1/sessions/%s/exec" % session.id, {"source": "import time; time.sleep(60)"}, headers={"Prefer": "respond-async"})
    assert job.status == 202
    connection = http.client.HTTPConnection(*desk.server.address, timeout=20)
    connection.request("GET", "/v1/sessions/%s/stream" % session.id, headers={"Accept": "text/event-stream", "NESTServerAuth": dora.token})
    stream = connection.getresponse()
    assert stream.status == 200
    began = time.monotonic()
    assert desk.operator.request("PATCH", "/v1/users/" + user["id"], json_body={"active": False}).status == 200
    assert dora.get("/v1/me").status == 401
    with contextlib.suppress(http.client.IncompleteRead):  # it is cut, not ended
        stream.read()
    assert time.monotonic() - began < 5
    wait_until(lambda: desk.operator.get("/v1/sessions/" + session.id).json()["state"] == "ended", "its session ended", 5)
    assert desk.sign_in("dora").status == 403
    assert desk.operator.request("PATCH", "/v1/users/" + user["id"], json_body={"active": True}).status == 200
    assert desk.sign_in("dora").status == 200


def test_runs_pass_to_the_heir_or_are_kept(desk):
    for name in ("parent", "heir", "lonely"):
        desk.user(name)
    kept = {}
    for name in ("parent", "lonely"):
        client = desk.as_user(name)
        session = Session(client, "python")
        answer = client.post("/v1/sessions/%s/exec" % session.id, {"source": "import numpy\na = numpy.arange(1000.)", "return": "a", "keep": True})
        kept[name] = answer.headers["myelin-run"]
    assert desk.operator.request("DELETE", "/v1/users/parent?to=heir").status == 204
    heir = desk.as_user("heir")
    run = heir.get("/v1/runs/" + kept["parent"])
    assert run.status == 200 and run.json()["user"] == "heir", run
    assert heir.get("/v1/runs/%s/result" % kept["parent"]).json()["data"][-1] == 999
    assert desk.operator.request("DELETE", "/v1/users/lonely").status == 204
    assert desk.operator.get("/v1/runs/%s/result" % kept["lonely"]).json()["data"][-1] == 999
    assert desk.sign_in("lonely").status == 401


def test_the_last_admin_stays(desk):
    assert desk.operator.request("DELETE", "/v1/users/admin").status == 409
    assert desk.operator.request("PATCH", "/v1/users/admin", json_body={"role": "guest"}).status == 409


# ---- names, the command line, the audit log


def test_names_are_data(desk):
    for name in ("<script>alert(1)</script>", "Łukasz Żółć", "a'; DROP TABLE users; --", "../../etc/passwd", "{{7*7}}", "a\u0301", "%2e%2e"):
        made = desk.operator.post("/v1/users", {"username": name})
        assert made.status == 201 and made.json()["username"] == name, made
        assert desk.operator.get("/v1/users/" + made.json()["id"]).json()["username"] == name
        assert desk.operator.get("/v1/users?containing=" + urllib.parse.quote(name)).json()["users"][0]["username"] == name
    for name in ("", " x", "x" * 81, "a\nb", "a\x00b", "operator", "anonymous", 7, None, ["x"]):
        assert desk.operator.post("/v1/users", {"username": name}).status == 400, name
    assert desk.operator.post("/v1/users", {"username": "admin"}).status == 409


def test_users_by_the_command_line(desk):
    def myelin(*words, stdin=""):
        return subprocess.run([BINARY, *words, "--data", desk.server.data], input=stdin, capture_output=True, text=True, timeout=60,
                              env=desk.server.environment)

    link = myelin("user", "add", "cleo", "--email", "cleo@lab.example").stdout.strip()
    assert desk.server.client(None).post("/v1/auth/reset", {"reset": link.partition("#reset=")[2], "new": PASSWORD}).status == 204
    cleo = desk.as_user("cleo")
    assert "cleo" in myelin("user", "list").stdout
    assert myelin("user", "role", "cleo", "admin").returncode == 0
    wait_until(lambda: cleo.get("/v1/users").status == 200, "the role to count")  # with PostgreSQL a moment later
    assert myelin("user", "role", "cleo", "king").returncode == 1
    session = Session(cleo, "python")
    assert myelin("user", "deactivate", "cleo").returncode == 0
    wait_until(lambda: cleo.get("/v1/me").status == 401, "the user to be refused")
    wait_until(lambda: desk.operator.get("/v1/sessions/" + session.id).json()["state"] == "ended", "the session ended")
    assert myelin("user", "delete", "cleo").returncode == 0 and myelin("user", "delete", "cleo").returncode == 1
    assert myelin("user", "add", "weak", "--password-stdin", stdin="password\n").returncode == 1


def test_the_audit_log_tells_who_did_what_and_no_secret(desk):
    desk.user("audrey")
    audrey = desk.as_user("audrey")
    token = audrey.post("/v1/tokens", {"name": "one"}).json()["token"]
    assert audrey.get("/v1/audit").status == 403
    entries = desk.operator.get("/v1/audit?limit=500").json()["entries"]
    actions = {e["action"] for e in entries}
    assert {"user.add", "user.reset", "user.password", "sign_in", "token.add"} <= actions
    text = json.dumps(entries)
    assert token not in text and PASSWORD not in text and [e["seq"] for e in entries] == sorted((e["seq"] for e in entries), reverse=True)
    assert {e["action"] for e in desk.operator.get("/v1/audit?action=sign_in").json()["entries"]} == {"sign_in"}
    mine = desk.operator.get("/v1/audit?actor=audrey").json()["entries"]
    assert mine and {e["actor_name"] for e in mine} == {"audrey"}
    assert {e["seq"] for e in mine} < {e["seq"] for e in desk.operator.get("/v1/audit?actor=" + mine[0]["actor"]).json()["entries"]}  # by a reset link, too
    assert PASSWORD not in desk.server.log_text() and token not in desk.server.log_text()


def test_without_auth_there_are_no_accounts(make_server):
    client = make_server(auth="none").client(None)
    assert client.get("/v1/auth/methods").json()["password"] is False
    assert client.get("/v1/me").json()["username"] == "local"
    for path in ("/v1/tokens", "/v1/auth/sign-in"):
        assert client.post(path, {"username": "a", "password": "b"}).status == 409


# ---- what changes while something else goes on


def watch(desk, session, token):
    """A stream of a session's events, opened."""
    connection = http.client.HTTPConnection(*desk.server.address, timeout=20)
    connection.request("GET", "/v1/sessions/%s/stream" % session, headers={"Accept": "text/event-stream", "NESTServerAuth": token})
    stream = connection.getresponse()
    assert stream.status == 200, stream.read()
    stream.connection = connection
    return stream


def is_cut(stream, within_s=5):
    began = time.monotonic()
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
        stream.read()
    return time.monotonic() - began < within_s


def test_streams_end_with_the_right_to_them(desk):
    for name in ("star", "chief", "viewer", "brief"):
        desk.user(name)
    star = desk.as_user("star")
    session = Session(star, "python").id
    assert desk.operator.request("PATCH", "/v1/users/chief", json_body={"role": "admin"}).status == 200
    chief = watch(desk, session, desk.as_user("chief").token)
    grant = desk.grant("view:session:" + session, user="viewer")
    viewer = watch(desk, session, desk.as_user("viewer").token)
    short = star.post("/v1/tokens", {"name": "short", "expires_in_s": 6, "scopes": ["view:session:" + session]}).json()["token"]
    brief = watch(desk, session, short)
    own = watch(desk, session, star.token)
    assert desk.operator.request("PATCH", "/v1/users/chief", json_body={"role": "member"}).status == 200
    assert is_cut(chief)
    assert desk.operator.request("DELETE", "/v1/grants/" + grant).status == 204
    assert is_cut(viewer)
    assert is_cut(brief, 15)
    own.connection.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):  # whose rights are as they were goes on
        own.read()
    own.connection.close()


def test_sweeps_of_a_deactivated_user_end(desk):
    user = desk.user("sweeper")
    client = desk.as_user("sweeper")
    sweep = client.post("/v1/sweeps", {"function": "run_cell", "parameters": {"tstop": 5000, "dur": [100, 4000], "fi": False, "traces": False},
                                       "grid": {"amp": [0.001 * i for i in range(2000)]}})
    assert sweep.status == 202, sweep
    assert desk.operator.request("PATCH", "/v1/users/" + user["id"], json_body={"active": False}).status == 200
    wait_until(lambda: desk.operator.get("/v1/runs/" + sweep.json()["id"]).json()["state"] == "cancelled", "the end of the sweep", 10)


def test_a_refresh_token_used_twice_at_once_leaves_nothing(desk):
    desk.user("twice")
    for _ in range(8):
        refresh = desk.sign_in("twice").json()["refresh_token"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: desk.server.client(None).post("/v1/auth/refresh", {"refresh_token": refresh}), range(4)))
        assert sorted(a.status for a in answers)[1:] == [401] * 3, answers
        for answer in answers:
            if answer.status == 200:
                assert bearer(desk.server, answer.json()["access_token"]).get("/v1/me").status == 401
                assert desk.server.client(None).post("/v1/auth/refresh", {"refresh_token": answer.json()["refresh_token"]}).status == 401


def test_sign_ins_with_the_old_password_end_with_it_even_those_on_their_way(desk):
    passed = 0
    for number in range(4):
        name = "hasty%d" % number
        desk.user(name)
        client = desk.as_user(name)
        change = lambda: client.post("/v1/auth/password", {"old": PASSWORD, "new": PASSWORD + "-2"}).status  # noqa: E731
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            on_their_way = [pool.submit(desk.sign_in, name) for _ in range(6)]
            wait_until(lambda: change() == 204, "the new password", 20)  # attempts that are being judged count as failed ones: 429
            answers = [one.result() for one in on_their_way]
        for answer in answers:
            assert answer.status in (200, 401, 429), answer
            if answer.status == 200:
                passed += 1
                assert bearer(desk.server, answer.json()["access_token"]).get("/v1/me").status == 401
                assert desk.server.client(None).post("/v1/auth/refresh", {"refresh_token": answer.json()["refresh_token"]}).status == 401
        assert client.get("/v1/me").status == 200  # who changed it stays signed in
    assert passed, "none overtook the change: nothing was tested"


def test_a_token_for_desktop_is_for_who_signed_in_and_ends_with_that(desk):
    desk.user("desktop")
    client = desk.as_user("desktop")
    made = client.post("/v1/auth/desktop", {}).json()["token"]
    derived = bearer(desk.server, made)
    assert derived.get("/v1/me").status == 200 and derived.post("/v1/auth/desktop", {}).status == 403
    for scopes in (None, ["use:session:*"]):
        token = client.post("/v1/tokens", {"name": "t%s" % bool(scopes), "expires_in_s": 60, **({"scopes": scopes} if scopes else {})}).json()["token"]
        assert bearer(desk.server, token).post("/v1/auth/desktop", {}).status == 403
    assert client.post("/v1/auth/sign-out", {}).status == 204
    assert derived.get("/v1/me").status == 401


def test_a_reset_link_ends_with_the_password_and_knows_the_name(desk):
    desk.user("wolfgangmustermann")
    link = lambda: desk.operator.post("/v1/users/wolfgangmustermann/reset", {}).json()["link"].partition("#reset=")[2]  # noqa: E731
    use = lambda reset, new: desk.server.client(None).post("/v1/auth/reset", {"reset": reset, "new": new}).status  # noqa: E731
    first = link()
    assert use(first, "wolfgangmustermann") == 400
    assert desk.as_user("wolfgangmustermann").post("/v1/auth/password", {"old": PASSWORD, "new": PASSWORD + "-2"}).status == 204
    assert use(first, PASSWORD + "-3") == 401
    assert use(link(), PASSWORD + "-4") == 204 and desk.sign_in("wolfgangmustermann", PASSWORD + "-4").status == 200


@pytest.mark.parametrize("body", [{"role": ["guest"]}, {"active": "false"}, {"password": 12345678}, {"email": 5}, {"active": 0}])
def test_values_of_the_wrong_type_make_no_user(desk, body):
    assert desk.operator.post("/v1/users", dict({"username": "typed"}, **body)).status == 400
    assert desk.operator.get("/v1/users/typed").status == 404
    assert desk.operator.request("PATCH", "/v1/users/admin", json_body=body).status == 400
