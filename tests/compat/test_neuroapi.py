"""NeuroAPI's face: all recorded exchanges, every case of its routes, and what must not get through."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import pathlib
import re
import time

import pytest

import neuroapi_differences as differences
import neuroapi_exchange as exchange
from conftest import Client
from neuroapi_exchange import CELL, FUNCTION, GOOD, PASSWORD, SECRET, bearer, claims_of, sign

ENVIRONMENT = {"MYELIN_ADMIN_PASSWORD": PASSWORD, "MYELIN_SECRET_KEY": SECRET}
NOT_FOUND = {"message": "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."}


def face_client(server, name="NeuroAPI"):
    line = next(l for l in server.lines if l.startswith(name + " on "))
    return Client(("127.0.0.1", int(line.rpartition(":")[2])))


# ---- the recorded exchanges

_answers = {}


@pytest.fixture
def answer_of(module_server):
    """The answer to a record. All of a mode are sent once, in order: development to a port of the face's own, production to the common one."""

    def answers(mode):
        if mode not in _answers:
            server = module_server(environment=ENVIRONMENT, face={"neuroapi": {"listen": "127.0.0.1:0", "json": mode}})
            replay = exchange.Replay(face_client(server) if mode == "development" else server.client(token=None))
            _answers[mode] = {}
            for record in exchange.RECORDS:
                if record["server"] != mode:
                    continue
                try:
                    _answers[mode][exchange.key_of(record)] = replay.send(record)
                except Exception as error:  # the test of this record will show it; the others go on
                    _answers[mode][exchange.key_of(record)] = error
        return _answers[mode]

    return answers


@pytest.mark.parametrize("record", exchange.RECORDS, ids=exchange.key_of)
def test_exchange(record, answer_of):
    key = exchange.key_of(record)
    answer = answer_of(record["server"])[key]
    if isinstance(answer, Exception):
        raise answer
    wanted, got = exchange.recorded_view(record), exchange.answer_view(record, answer)
    if key in differences.DIFFERENCES:
        reason, expect = differences.DIFFERENCES[key]
        assert wanted != got, "listed as different, but it is the same: %s" % reason
        expect.check(answer)
    else:
        assert wanted == got, "differs, and is not listed: %r" % answer


def test_every_record_is_there():
    keys = [exchange.key_of(r) for r in exchange.RECORDS]
    assert len(keys) == len(set(keys)) == 51
    assert set(differences.DIFFERENCES) <= set(keys)


def test_documentation_lists_these_differences():
    path = pathlib.Path(__file__).parents[2] / "docs" / "neuroapi-differences.md"
    assert path.read_text() == differences.render(), "run: python tests/compat/neuroapi_differences.py > docs/neuroapi-differences.md"


# ---- a server for the rest

_shared = {}


class Face:
    """One server, its face, and users as they are needed."""

    def __init__(self, server):
        self.server, self.client = server, face_client(server)
        self.admin = self.login("admin", PASSWORD)["access_token"]
        self.count = 0

    def login(self, username, password):
        answer = self.client.post("/auth/login", {"username": username, "password": password})
        assert answer.status == 200, answer
        return answer.json()

    def request(self, method, path, token=None, content=None, **options):
        headers = dict(options.pop("headers", {}))
        if token:
            headers.update(bearer(token))
        return self.client.request(method, path, headers=headers, json_body=content, **options)

    def user(self, **fields):
        """A new user: their number and name, and what login gave."""
        self.count += 1
        name = fields.pop("username", "user%d" % self.count)
        content = dict({"username": name, "email": name + "@lab.example", "password": GOOD}, **fields)
        answer = self.request("POST", "/api/v1/users", self.admin, content)
        assert answer.status == 201, answer
        return answer.json()["user"]["id"], name, self.login(name, content["password"])

    def call(self, function, params, token=None):
        return self.request("POST", FUNCTION, token, {"function": function, "params": params})


@pytest.fixture
def face(module_server):
    if "face" not in _shared:
        _shared["face"] = Face(module_server(environment=ENVIRONMENT, face={"neuroapi": {"listen": "127.0.0.1:0"}, "nest": {"listen": "127.0.0.1:0"}}))
    return _shared["face"]


# ---- tokens

def test_tokens_hold_what_the_original_puts_into_them(face):
    number, _, tokens = face.user()
    head = base64.urlsafe_b64decode(tokens["access_token"].split(".")[0] + "==")
    assert head == b'{"typ":"JWT","alg":"HS256"}'
    access, refresh = claims_of(tokens["access_token"]), claims_of(tokens["refresh_token"])
    assert list(access) == ["iat", "nbf", "jti", "exp", "identity", "fresh", "type"]
    assert list(refresh) == ["iat", "nbf", "jti", "exp", "identity", "type"]
    assert access["nbf"] == access["iat"] and abs(access["iat"] - time.time()) < 60
    assert access["exp"] - access["iat"] == 900 and refresh["exp"] - refresh["iat"] == 30 * 86400
    assert access["identity"] == refresh["identity"] == number and access["fresh"] is False
    assert (access["type"], refresh["type"]) == ("access", "refresh")
    assert len(access["jti"]) == 36 and access["jti"][14] == "4" and access["jti"] != refresh["jti"]
    text = tokens["access_token"].rpartition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    assert tokens["access_token"] == text + "." + signature


PROTECTED = [("POST", "/auth/refresh"), ("DELETE", "/auth/revoke_access"), ("DELETE", "/auth/revoke_refresh"), ("GET", "/api/v1/users"),
             ("POST", "/api/v1/users"), ("GET", "/api/v1/users/1"), ("PUT", "/api/v1/users/1"), ("DELETE", "/api/v1/users/1")]


@pytest.mark.parametrize("method,path", PROTECTED, ids=lambda v: v)
def test_what_is_wrong_with_a_token(face, method, path):
    tokens = face.login("admin", PASSWORD)
    kind, other = ("refresh", "access") if path.endswith("refresh") else ("access", "refresh")
    good = tokens[kind + "_token"]
    claims, now = claims_of(good), int(time.time())
    head, payload, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"none"}').rstrip(b"=").decode()
    bad_header = "Bad Authorization header. Expected value 'Bearer <JWT>'"
    cases = [
        (None, 401, "Missing Authorization Header"), ("", 401, "Missing Authorization Header"),
        ("Basic abc", 422, bad_header), ("Bearer", 422, bad_header), ("bearer " + good, 422, bad_header), ("Bearer a b", 422, bad_header),
        ("JWT " + good, 422, bad_header), (good, 422, bad_header),
        ("Bearer abc", 422, "Not enough segments"), ("Bearer a.b", 422, "Not enough segments"),
        ("Bearer " + none + "." + payload + ".", 422, "The specified alg value is not allowed"),
        ("Bearer " + none + "." + payload + "." + signature, 422, "The specified alg value is not allowed"),
        ("Bearer " + sign(claims, head={"typ": "JWT", "alg": "HS512"}), 422, "The specified alg value is not allowed"),
        ("Bearer " + head + "." + payload + "." + "A" * 43, 422, "Signature verification failed"),
        ("Bearer " + head + "." + payload + ".", 422, "Signature verification failed"),
        ("Bearer " + sign(claims, "changeme"), 422, "Signature verification failed"),
        ("Bearer " + sign(claims, ""), 422, "Signature verification failed"),
        ("Bearer " + sign(dict(claims, nbf=now + 500)), 422, "The token is not yet valid (nbf)"),
        ("Bearer " + sign(dict(claims, exp=now - 1)), 401, "Token has expired"),
        ("Bearer " + tokens[other + "_token"], 422, "Only %s tokens are allowed" % kind),
        ("Bearer " + sign(dict(claims, jti="11111111-2222-4333-8444-555555555555")), 401, "Token has been revoked"),
        ("Bearer " + sign({"exp": now + 60, "identity": 1, "type": kind}), 401, "Token has been revoked"),
        ("Bearer " + sign(dict(claims, jti="' OR 1=1 --")), 401, "Token has been revoked"),
        ("Bearer " + sign(dict(claims, jti=["x"])), 401, "Token has been revoked"),
    ]
    for header, status, message in cases:
        answer = face.client.request(method, path, headers={} if header is None else {"Authorization": header})
        assert (answer.status, answer.text) == (status, '{\n  "msg": %s\n}\n' % json.dumps(message)), (header, answer)
    # A token of somebody else's number is still its owner's: the row decides, not the claim.
    if path == "/api/v1/users":
        _, _, mine = face.user()
        assert face.request("GET", path, sign(dict(claims_of(mine["access_token"]), identity=1))).status == 403


def test_a_refresh_token_lasts_and_each_token_is_revoked_alone(face):
    number, name, tokens = face.user()
    own = "/api/v1/users/%d" % number
    first = face.request("POST", "/auth/refresh", tokens["refresh_token"])
    assert first.status == 200 and list(first.json()) == ["access_token"]
    second = face.request("POST", "/auth/refresh", tokens["refresh_token"]).json()["access_token"]
    first = first.json()["access_token"]
    assert claims_of(second)["fresh"] is False and len({first, second, tokens["access_token"]}) == 3
    revoked = face.request("DELETE", "/auth/revoke_access", first)
    assert (revoked.status, revoked.text) == (200, '{\n  "message": "token revoked"\n}\n')
    again = face.request("DELETE", "/auth/revoke_access", first)
    assert (again.status, again.json()) == (401, {"msg": "Token has been revoked"})
    assert face.request("GET", own, first).status == 401
    assert face.request("GET", own, second).status == 200 and face.request("GET", own, tokens["access_token"]).status == 200
    assert face.request("DELETE", "/auth/revoke_refresh", tokens["refresh_token"]).status == 200
    for method, path in (("POST", "/auth/refresh"), ("DELETE", "/auth/revoke_refresh")):
        assert face.request(method, path, tokens["refresh_token"]).json() == {"msg": "Token has been revoked"}
    assert face.request("GET", own, second).status == 200, "made from a refresh token that was revoked later"
    assert face.login(name, GOOD)


def test_tokens_of_the_native_sign_in(face):
    native = face.server.client(token=None)
    signed = native.post("/v1/auth/sign-in", {"username": "admin", "password": PASSWORD}).json()
    assert face.request("GET", "/api/v1/users/1", signed["access_token"]).status == 200
    # One that can be exchanged once must not become one that lasts, nor the other way round.
    answer = face.request("POST", "/auth/refresh", signed["refresh_token"])
    assert (answer.status, answer.json()) == (422, {"msg": "Missing claim: identity"})
    tokens = face.login("admin", PASSWORD)
    assert native.post("/v1/auth/refresh", {"refresh_token": tokens["refresh_token"]}).status == 401
    assert face.request("POST", "/auth/refresh", tokens["refresh_token"]).status == 200
    assert native.request("GET", "/v1/me", headers=bearer(tokens["access_token"])).json()["username"] == "admin"
    made = native.request("POST", "/v1/tokens", headers=bearer(signed["access_token"]), json_body={"name": "program"})
    assert made.status == 201, made
    assert face.request("GET", "/api/v1/users", made.json()["token"]).status == 200
    assert face.request("DELETE", "/auth/revoke_access", made.json()["token"]).status == 422
    assert face.request("GET", "/api/v1/users", face.server.token).status == 200


@pytest.mark.parametrize("content_type,body,status,wanted", [
    ("application/json", '{"username": "admin", "password": "wrong password"}', 400, {"msg": "Bad credentials"}),
    ("application/json", '{"username": "nobody at all", "password": "wrong password"}', 400, {"msg": "Bad credentials"}),
    ("application/json", "{}", 400, {"msg": "Missing username or password"}),
    ("application/json", '{"username": "admin"}', 400, {"msg": "Missing username or password"}),
    ("application/json", '{"password": "x"}', 400, {"msg": "Missing username or password"}),
    ("application/json", '{"username": "", "password": "x"}', 400, {"msg": "Missing username or password"}),
    ("application/json", '{"username": null, "password": "x"}', 400, {"msg": "Missing username or password"}),
    ("application/json", '{"username": 0, "password": "x"}', 400, {"msg": "Missing username or password"}),
    ("application/json", '{"username": "admin", "password": 5}', 400, {"msg": "Missing username or password"}),
    ("application/json", '["admin"]', 400, {"msg": "Missing username or password"}),
    ("application/json", "null", 400, {"msg": "Missing username or password"}),
    ("text/plain", '{"username": "admin", "password": "x"}', 400, {"msg": "Missing JSON in request"}),
    ("application/x-www-form-urlencoded", "username=admin&password=x", 400, {"msg": "Missing JSON in request"}),
    (None, None, 400, {"msg": "Missing JSON in request"}),
])
def test_login_refuses(face, content_type, body, status, wanted):
    answer = face.client.request("POST", "/auth/login", body=body, headers={"Content-Type": content_type} if content_type else {})
    assert (answer.status, answer.json()) == (status, wanted)


@pytest.mark.parametrize("body", ["{bad", "", "\ufeff{}", b"\xff{}", "[" * 5000, '{"username": "a\x00"}'])
def test_login_malformed(face, body):
    answer = face.client.request("POST", "/auth/login", body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400 and answer.headers["content-type"] == "text/html" and "<title>400 Bad Request</title>" in answer.text


def test_wrong_passwords_are_limited(face):
    _, name, _ = face.user()
    statuses = []
    for _ in range(12):
        answer = face.client.post("/auth/login", {"username": name, "password": "wrong password"})
        statuses.append(answer.status)
        if answer.status == 429:
            break
    assert statuses[-1] == 429 and set(statuses[:-1]) == {400} and len(statuses) >= 4
    assert int(answer.headers["retry-after"]) >= 1 and "msg" in answer.json()
    assert face.client.post("/auth/login", {"username": name, "password": GOOD}).status == 429


# ---- users

@pytest.mark.parametrize("content,wanted", [
    ({}, {"username": "Missing data for required field.", "email": "Missing data for required field.", "password": "Missing data for required field."}),
    ({"username": None, "email": None, "password": None}, dict.fromkeys(("username", "email", "password"), "Field may not be null.")),
    ({"username": 5, "email": {}, "password": [], "active": "maybe"},
     dict(dict.fromkeys(("username", "email", "password"), "Not a valid string."), active="Not a valid boolean.")),
    ({"username": "a" * 81, "email": "b" * 81, "password": GOOD}, dict.fromkeys(("username", "email"), "Longer than maximum length 80.")),
    ({"username": "x1", "email": "x1", "password": GOOD, "active": [1]}, {"active": "Not a valid boolean."}),
    ({"username": "x1", "email": "x1", "password": "short"}, {"password": "a password has at least 8 characters"}),
    ({"username": "x1", "email": "x1", "password": "password"}, {"password": ...}),
    ({"username": "a\nb", "email": "x1", "password": GOOD}, {"username": ...}),
    ({"username": "operator", "email": "x1", "password": GOOD}, {"username": ...}),
    ({"username": "\ud800", "email": "x1", "password": GOOD}, {"username": "Not a valid string."}),
    ([], {"_schema": "Invalid input type."}), ("x", {"_schema": "Invalid input type."}), (None, {"_schema": "Invalid input type."}),
])
def test_fields_of_a_new_user(face, content, wanted):
    answer = face.client.request("POST", "/api/v1/users", headers=dict(bearer(face.admin), **{"Content-Type": "application/json"}), body=json.dumps(content))
    assert answer.status == 422, answer
    got = answer.json()
    assert got.keys() == wanted.keys()
    for field, message in wanted.items():
        assert len(got[field]) == 1 and (message is ... or got[field] == [message])


def test_bodies_that_are_no_json(face):
    headers = dict(bearer(face.admin), **{"Content-Type": "text/plain"})
    for body in ("{}", None):
        answer = face.client.request("POST", "/api/v1/users", headers=headers, body=body)
        assert (answer.status, answer.json()) == (422, {"_schema": ["Invalid input type."]})
    headers["Content-Type"] = "application/json"
    answer = face.client.request("PUT", "/api/v1/users/1", headers=headers, body="")
    assert (answer.status, answer.json()) == (400, {"message": "Failed to decode JSON object: Expecting value: line 1 column 1 (char 0)"})
    answer = face.client.request("PUT", "/api/v1/users/99999", headers=headers, body="{x")
    assert (answer.status, answer.json()) == (404, NOT_FOUND), "404 comes before the body"


def test_a_user_from_beginning_to_end(face):
    made = face.request("POST", "/api/v1/users", face.admin, {"username": "Zoë", "email": "zoë@lab.example", "password": GOOD, "active": "true", "id": 1, "role": "admin", "is_admin": True})
    assert made.status == 201 and made.json()["msg"] == "user created" and "\\u00eb" in made.text
    user = made.json()["user"]
    assert user == {"id": user["id"], "username": "Zoë", "email": "zoë@lab.example", "active": True} and user["id"] > 1
    path = "/api/v1/users/%d" % user["id"]
    tokens = face.login("Zoë", GOOD)
    assert face.request("GET", path, face.admin).json() == {"user": user}
    assert face.request("GET", "/api/v1/users", tokens["access_token"]).status == 403, "role in the body is ignored"
    assert face.request("PUT", path, face.admin, {}).json() == {"msg": "user updated", "user": user}
    assert face.request("PUT", path, face.admin, {"email": "z@lab.example", "nonsense": 1}).json()["user"] == dict(user, email="z@lab.example")
    fresh = face.request("PUT", path, face.admin, {"password": "another good phrase"})
    assert fresh.status == 200 and "password" not in fresh.json()["user"]
    assert face.client.post("/auth/login", {"username": "Zoë", "password": GOOD}).status == 400
    assert face.request("GET", path, tokens["access_token"]).json() == {"msg": "Token has been revoked"}
    tokens = face.login("Zoë", "another good phrase")
    off = face.request("PUT", path, face.admin, {"active": 0})
    assert off.json()["user"]["active"] is False
    assert face.request("GET", path, tokens["access_token"]).status == 401
    assert face.client.post("/auth/login", {"username": "Zoë", "password": "another good phrase"}).status == 403
    assert face.client.post("/auth/login", {"username": "Zoë", "password": "wrong password"}).json() == {"msg": "Bad credentials"}
    assert face.request("PUT", path, face.admin, {"active": None}).json()["user"]["active"] is False
    assert face.request("PUT", path, face.admin, {"active": "T"}).json()["user"]["active"] is True
    token = face.login("Zoë", "another good phrase")["access_token"]
    gone = face.request("DELETE", path, face.admin)
    assert (gone.status, gone.text) == (200, '{\n    "msg": "user deleted"\n}\n')
    assert face.request("GET", path, token).json() == {"msg": "Error loading the user %d" % user["id"]}
    for method in ("DELETE", "GET"):
        again = face.request(method, path, face.admin)
        assert (again.status, again.json()) == (404, NOT_FOUND)


def test_taken_names_are_conflicts(face):
    number, name, _ = face.user()
    other, other_name, _ = face.user()
    for content in ({"username": name, "email": "new@x", "password": GOOD}, {"username": "brand new", "email": name + "@lab.example", "password": GOOD}):
        answer = face.request("POST", "/api/v1/users", face.admin, content)
        assert answer.status == 409 and list(answer.json()) == ["message"]
    for content in ({"username": name}, {"email": name + "@lab.example", "password": "should not be set"}):
        assert face.request("PUT", "/api/v1/users/%d" % other, face.admin, content).status == 409
    assert face.login(other_name, GOOD)
    assert face.request("PUT", "/api/v1/users/%d" % number, face.admin, {"username": name, "email": name + "@lab.example"}).status == 200


def test_what_a_user_may_do(face):
    number, name, tokens = face.user()
    other, _, _ = face.user()
    token, own = tokens["access_token"], "/api/v1/users/%d" % number
    refused = [("GET", "/api/v1/users", None), ("POST", "/api/v1/users", {"username": "x", "email": "x", "password": GOOD}),
               ("GET", "/api/v1/users/%d" % other, None), ("PUT", "/api/v1/users/%d" % other, {"email": "x"}), ("DELETE", "/api/v1/users/%d" % other, None),
               ("GET", "/api/v1/users/1", None), ("PUT", "/api/v1/users/1", {"password": GOOD}), ("DELETE", "/api/v1/users/1", None),
               ("GET", "/api/v1/users/99999", None), ("PUT", own, {"username": "another"}), ("PUT", own, {"active": False})]
    for method, path, content in refused:
        answer = face.request(method, path, token, content)
        assert answer.status == 403 and list(answer.json()) == ["msg"], (method, path, answer)
    user = face.request("GET", own, token).json()["user"]
    assert user["username"] == name
    assert face.request("PUT", own, token, dict(user, email="mine@lab.example")).json()["user"]["email"] == "mine@lab.example"
    elsewhere = face.login(name, GOOD)
    assert face.request("PUT", own, token, {"password": "short"}).status == 422
    assert face.request("PUT", own, token, {"password": name + "2024"}).status == 422
    assert face.request("PUT", own, token, {"password": "another good phrase"}).status == 200
    assert face.request("GET", own, token).status == 200, "the sign-in that changed it goes on"
    assert face.request("GET", own, elsewhere["access_token"]).status == 401
    assert face.request("POST", "/auth/refresh", elsewhere["refresh_token"]).status == 401
    # A narrow token is not its user.
    narrow = face.server.client(token=None).request("POST", "/v1/auth/desktop", headers=bearer(token), json_body={}).json()["token"]
    for method, content in (("GET", None), ("PUT", {"password": "stolen by a token"}), ("DELETE", None)):
        assert face.request(method, own, narrow, content).status == 403
    assert face.request("DELETE", own, token).status == 200
    assert face.request("GET", own, token).status == 401


def test_grants_of_users(face):
    number, _, tokens = face.user()
    victim, victim_name, _ = face.user()
    native = face.server.client()
    ids = {u["number"]: u["id"] for u in native.get("/v1/users?limit=500").json()["users"]}

    def grant(what):
        answer = native.post("/v1/grants", {"grant": what, "user": ids[number]})
        assert answer.status == 201, answer

    token = tokens["access_token"]
    grant("view:user:*")
    assert face.request("GET", "/api/v1/users", token).status == 200
    assert face.request("GET", "/api/v1/users/%d" % victim, token).status == 200
    assert face.request("GET", "/api/v1/users/99999", token).status == 404
    assert face.request("PUT", "/api/v1/users/%d" % victim, token, {"email": "x"}).status == 403
    grant("edit:user:*")
    assert face.request("PUT", "/api/v1/users/%d" % victim, token, {"password": "by the helper desk"}).status == 200
    assert face.login(victim_name, "by the helper desk")
    for method, content in (("PUT", {"password": "by the helper desk"}), ("DELETE", None)):
        assert face.request(method, "/api/v1/users/1", token, content).status == 403, "an admin is for admins"


def test_the_last_admin_stays(face):
    answer = face.request("DELETE", "/api/v1/users/1", face.admin)
    assert answer.status == 409 and list(answer.json()) == ["message"]
    assert face.request("PUT", "/api/v1/users/1", face.admin, {"active": False}).status == 409


def test_pages(face):
    while face.request("GET", "/api/v1/users", face.admin).json()["total"] < 7:
        face.user()
    total = face.request("GET", "/api/v1/users", face.admin).json()["total"]
    for size in ("page_size", "per_page"):
        seen, path = [], "/api/v1/users?page=1&%s=3" % size
        pages = -(-total // 3)
        for number in range(1, pages + 1):
            page = face.request("GET", path, face.admin).json()
            assert list(page) == ["total", "pages", "next", "prev", "results"]
            assert (page["total"], page["pages"]) == (total, pages)
            assert page["prev"] == "/api/v1/users?page=%d&per_page=3" % max(number - 1, 1)
            assert page["next"] == "/api/v1/users?page=%d&per_page=3" % min(number + 1, pages)
            seen += [u["id"] for u in page["results"]]
            path = page["next"]
        assert seen == sorted(set(seen)) and len(seen) == total
    assert len(face.request("GET", "/api/v1/users?page_size=2&per_page=5", face.admin).json()["results"]) == 2
    assert "per_page=500" in face.request("GET", "/api/v1/users?per_page=100000", face.admin).json()["next"]
    for query in ("page=0", "page=-1", "page=x", "page=", "page=999", "page=1.5", "page=99999999999999999999", "page_size=0", "per_page=-3", "page_size=x",
                  "page=1%20OR%201=1", "page=9223372036854775807"):
        answer = face.request("GET", "/api/v1/users?" + query, face.admin)
        assert (answer.status, answer.json()) == (404, NOT_FOUND), query


def test_must_change(make_server):
    server = make_server(environment={"MYELIN_SECRET_KEY": SECRET}, face={"neuroapi": {"listen": "127.0.0.1:0"}})
    client = face_client(server)
    password = next(m.group(1) for line in server.lines if (m := re.search(r"with the password ([a-z0-9-]+);", line)))
    tokens = client.post("/auth/login", {"username": "admin", "password": password}).json()
    headers = bearer(tokens["access_token"])
    for method, path in (("GET", "/api/v1/users"), ("GET", "/api/v1/users/1"), ("DELETE", "/api/v1/users/1"), ("PUT", "/api/v1/users/2")):
        answer = client.request(method, path, headers=headers)
        assert answer.status == 403 and list(answer.json()) == ["msg"]
    assert client.request("POST", "/auth/refresh", headers=bearer(tokens["refresh_token"])).status == 403
    assert client.request("PUT", "/api/v1/users/1", headers=headers, json_body={"email": "x"}).status == 403
    assert client.request("PUT", "/api/v1/users/1", headers=headers, json_body={"password": password}).status == 422
    assert client.request("PUT", "/api/v1/users/1", headers=headers, json_body={"password": GOOD}).status == 200
    assert client.request("GET", "/api/v1/users", headers=headers).status == 200
    assert client.request("POST", "/auth/refresh", headers=bearer(tokens["refresh_token"])).status == 200


# ---- functions

UNPROCESSABLE = "<p>The request was well-formed but was unable to be followed due to semantic errors.</p>"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("query,content_type,body,wanted", [
    ("", "application/json", {"function": "return_params", "params": {"params": {"a": [1, {"b": None}]}}}, {"result": {"a": [1, {"b": None}]}}),
    ("", "text/plain", {"function": "return_params", "params": {"params": "x"}}, {"result": "x"}),
    ("", None, {"function": "return_params", "params": {"params": 0}}, {"result": 0}),
    ("?function=return_params", "application/json", {"params": {"params": False}}, {"result": False}),
    ("?function=return_params", "application/json", {"function": "nope", "params": {"params": 1}}, {"result": 1}),
    ("", "application/json", {"function": "return_params", "params": {"params": 1}, "more": 2}, {"result": 1}),
    ("", "application/json", {"params": {}}, 422), ("", "application/json", {"function": "return_params"}, 422),
    ("", "application/json", {"function": None, "params": {}}, 422), ("", "application/json", {"function": "return_params", "params": None}, 422),
    ("", "application/json", {"function": 5, "params": {}}, 422), ("", "application/json", {"function": "return_params", "params": [1]}, 422),
    ("", "application/json", {"function": ["return_params"], "params": {}}, 422), ("", "application/json", [], 422), ("", "application/json", None, 422),
    ("", "application/json", "", 422), ("?function=return_params&params={}", "application/json", "", 422),
    ("?params={}", "application/json", {"function": "return_params"}, 422), ("?function=return_params&params={}", "application/json", "{bad", 422),
    ("", "application/x-www-form-urlencoded", "function=return_params&params=%7B%7D", 422),
    ("?function=return_params", "application/x-www-form-urlencoded", "params=%7B%7D", 422),
    ("", "application/x-www-form-urlencoded", '{"function": "return_params", "params": {"params": 1}}', 422),
    ("", "application/json", "{bad", 400), ("?function=return_params", "application/json", "{bad", 400), ("", "application/json", "[" * 3000, 400),
    ("", "application/json", b"\xff", 400), ("", "application/json", " ", 400),
])
def test_how_a_function_is_asked_for(face, method, query, content_type, body, wanted):
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    answer = face.client.request(method, FUNCTION + query, body=body, headers={"Content-Type": content_type} if content_type else {})
    if wanted == 422:
        assert answer.status == 422 and answer.headers["content-type"] == "text/html"
        assert "<title>422 Unprocessable Entity</title>" in answer.text and UNPROCESSABLE in answer.text
    elif wanted == 400:
        assert (answer.status, answer.json()) == (400, {"messages": {"json": ["Invalid JSON body."]}})
    else:
        assert (answer.status, answer.json()) == (200, wanted)


def test_values_come_back_as_python_writes_them(face):
    body = '{"function": "return_params", "params": {"params": [123456789012345678901234567890, 1e5, -0, 1E400, NaN, "\\ud83d\\ude00\\ud800\\u007f"]}}'
    answer = face.client.request("POST", FUNCTION, body=body)
    assert answer.text == ('{\n    "result": [\n        123456789012345678901234567890,\n        100000.0,\n        0,\n        Infinity,\n        NaN,\n'
                           '        "\\ud83d\\ude00\\ud800\\u007f"\n    ]\n}\n')


ORDER = ["diam", "cm", "el", "gl", "gna", "gh", "gk", "tstop", "dur", "amp", "mhalf", "hhalf", "mk", "hk", "nhalf", "kn", "multiply", "multiply1", "multiply2",
         "seg1", "seg2", "seg3"]


def without(*names):
    return {k: v for k, v in CELL.items() if k not in names}


@pytest.mark.parametrize("function,params,message", [
    ("return_params", {}, "return_params() missing 1 required positional argument: 'params'"),
    ("return_params", {"zz": 1}, "return_params() got an unexpected keyword argument 'zz'"),
    ("return_params", {"params": 1, "zz": 1}, "return_params() got an unexpected keyword argument 'zz'"),
    ("run_cell", {}, "run_cell() missing 22 required positional arguments: " + ", ".join("'%s'" % n for n in ORDER[:-1]) + ", and 'seg3'"),
    ("run_cell", without("seg3"), "run_cell() missing 1 required positional argument: 'seg3'"),
    ("run_cell", without("seg3", "diam"), "run_cell() missing 2 required positional arguments: 'diam' and 'seg3'"),
    ("run_cell", without("seg3", "diam", "amp"), "run_cell() missing 3 required positional arguments: 'diam', 'amp', and 'seg3'"),
    ("run_cell", dict(CELL, nope=1), "run_cell() got an unexpected keyword argument 'nope'"),
    ("run_cell", dict(CELL, diam="big"), "bad value"),
    ("run_cell", dict(CELL, amp="big"), "must be real number, not str"),
    ("run_cell", dict(CELL, gna=None), "unsupported operand type(s) for *: 'NoneType' and 'float'"),
    ("run_cell", dict(CELL, dur=[100]), "list index out of range"),
    ("run_cell", dict(CELL, dur=[]), "list index out of range"),
    ("run_cell", dict(CELL, dur=100), "'int' object is not subscriptable"),
    ("run_cell", dict(CELL, dur=100.5), "'float' object is not subscriptable"),
    ("run_cell", dict(CELL, dur=None), "'NoneType' object is not subscriptable"),
    ("run_cell", dict(CELL, diam=0), "hocobj_call error: hoc_execerror: soma diameter diam = 0. Setting to 1e-6"),
    ("run_cell", dict(CELL, seg1="x"), "seg1 must be a number, not str"),
    ("run_cell", dict(CELL, tstop=-5), "tstop must be greater than 0 ms"),
    ("run_cell", dict(CELL, el=float("nan")), "el must be a finite number"),
    ("run_cell", dict(CELL, dur=[400, 100]), "dur must be [start, end] in ms, with start before end"),
    ("run_cell", dict(CELL, tstop=5001), "tstop is at most 5000 ms without a token; with one, 60000 ms"),
    ("run_cell", dict(CELL, tstop=1e9), "tstop is at most 5000 ms without a token; with one, 60000 ms"),
    ("run_cell", dict(CELL, amp=1e300), "amp is too large for steps of 0.1 nA"),
])
def test_arguments(face, function, params, message):
    answer = face.call(function, params)
    assert (answer.status, answer.json()) == (400, {"error": message})


def picture(answer):
    assert answer.status == 200, answer
    text = answer.json()["result"]
    assert text.startswith("b'") and text.endswith("'")
    data = base64.b64decode(text[2:-1], validate=True)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return data


def test_run_cell_draws(face):
    curve, one, none = (picture(face.call("run_cell", dict(CELL, amp=amp))) for amp in (0.1, -0.1, 0))
    assert curve[16:24] == (1600).to_bytes(4, "big") + (1400).to_bytes(4, "big")
    assert one[16:24] == none[16:24] == (1000).to_bytes(4, "big") + (600).to_bytes(4, "big")
    assert one != none, "amp 0 is a run of its own"
    assert picture(face.call("run_cell", dict(CELL, amp=0))) == none
    assert picture(face.call("run_cell", dict(CELL, dur=[100, 400, 7], multiply=True))) == curve
    picture(face.call("run_cell", dict(CELL, tstop=6000), face.admin))
    answer = face.call("run_cell", dict(CELL, tstop=60001), face.admin)
    assert (answer.status, answer.json()) == (400, {"error": "tstop is at most 60000 ms here"})


def test_callers_at_once_get_their_own(face):
    wanted = {amp: picture(face.call("run_cell", dict(CELL, amp=amp, mk=mk))) for amp, mk in ((0.1, 7.2), (-0.2, 5.0), (0.4, 9.0), (0, 7.2))}
    settings = [(0.1, 7.2), (-0.2, 5.0), (0.4, 9.0), (0, 7.2)] * 6
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda s: face.call("run_cell", dict(CELL, amp=s[0], mk=s[1])), settings))
        echoes = list(pool.map(lambda i: face.call("return_params", {"params": {"caller": i}}), range(50)))
    for (amp, _), answer in zip(settings, answers):
        assert picture(answer) == wanted[amp]
    assert [a.json()["result"]["caller"] for a in echoes] == list(range(50))


EVALUATED = ["os.getcwd", "nope", "", " return_params", "return_params ", "return_params()", "__import__('os').system('id')", "h.quit", "np.zeros", "os.system",
             "run_cell\u0000", "../run_cell", "{{7*7}}", "${7*7}", "%s%s%n", "'; DROP TABLE users; --", "return_params\n", "RETURN_PARAMS", "return_params.__class__",
             "a" * 10000]


@pytest.mark.parametrize("name", EVALUATED, ids=range(len(EVALUATED)))
def test_names_are_looked_up_never_evaluated(face, name):
    answer = face.call(name, {})
    assert answer.status == 404 and list(answer.json()) == ["error"] and "49" not in answer.text and "/" not in answer.json()["error"]


def test_functions_that_are_not_public(make_server):
    server = make_server(environment=ENVIRONMENT, functions={"public": False}, face={"neuroapi": {"listen": "127.0.0.1:0"}})
    face = Face(server)
    content = {"function": "return_params", "params": {"params": 1}}
    answer = face.request("POST", FUNCTION, None, content)
    assert (answer.status, answer.json()) == (401, {"msg": "Missing Authorization Header"})
    assert face.request("POST", FUNCTION, "a.b.c", content).status == 422
    assert face.request("POST", FUNCTION, face.admin, content).json() == {"result": 1}


def test_a_token_for_other_things_is_nobodys(face):
    made = face.server.client(face.admin).post("/v1/tokens", {"name": "share", "scopes": ["view:session:s_1"]})
    assert made.status == 201, made
    token = made.json()["token"]
    long = {"function": "run_cell", "params": dict(CELL, tstop=20000)}
    assert face.request("POST", FUNCTION, token, long).status == 400  # as without a token
    assert face.request("POST", FUNCTION, token, {"function": "return_params", "params": {"params": 1}}).json() == {"result": 1}


def test_a_token_is_not_asked_for(face):
    for header in ("Bearer abc", "nonsense", "Bearer " + face.admin):
        answer = face.client.request("POST", FUNCTION, headers={"Authorization": header}, json_body={"function": "return_params", "params": {"params": 1}})
        assert (answer.status, answer.json()) == (200, {"result": 1})


def test_bodies_are_bounded(face):
    large = json.dumps({"function": "return_params", "params": {"params": "x" * 300_000}})
    assert face.client.request("POST", FUNCTION, body=large).status == 413
    answer = face.client.request("POST", FUNCTION, body=large, headers=bearer(face.admin))
    assert answer.status == 200 and len(answer.json()["result"]) == 300_000
    assert face.client.request("POST", "/auth/login", body=" " * 100_000, headers={"Content-Type": "application/json"}).status == 413


# ---- paths and methods

@pytest.mark.parametrize("path", ["/", "/auth", "/auth/", "/auth/login/", "/auth/logout", "/api", "/api/v1", "/api/v1/", "/api/v1/users/", "/api/v1/users/abc",
                                  "/api/v1/users/-1", "/api/v1/users/1/", "/api/v1/users/1.0", "/api/v1/users/1%20", "/api/v1/users/%31%2f", "/api/v1/users/1%00",
                                  "/api/v1/users/..%2f1", "/api/v1/functions", "/swagger", "/swagger-ui/", "/swagger.json/", "/static/x", "/v1/sessions", "/app/",
                                  "/desktop/", "/exec", "/api/GetKernelStatus", "/API/v1/users", "//api/v1/users"])
def test_unknown_paths_of_its_own_port(face, path):
    for method in ("GET", "POST", "OPTIONS"):
        answer = face.client.request(method, path)
        if "%00" in path:  # no text, for this server
            assert answer.status in (400, 404)
            continue
        assert answer.status == 404 and answer.headers["content-type"] == "text/html", answer
        assert answer.text == next(r for r in exchange.RECORDS if r["name"] == "root_404")["response"]["body"]


ALLOWED = {"/auth/login": {"POST"}, "/auth/refresh": {"POST"}, "/auth/revoke_access": {"DELETE"}, "/auth/revoke_refresh": {"DELETE"},
           "/api/v1/users": {"GET", "HEAD", "POST"}, "/api/v1/users/1": {"GET", "HEAD", "PUT", "DELETE"}, "/api/v1/function": {"GET", "HEAD", "POST"},
           "/swagger.json": {"GET", "HEAD"}, "/swagger-ui": {"GET", "HEAD"}}


@pytest.mark.parametrize("path", ALLOWED)
def test_methods(face, path):
    answer = face.client.request("OPTIONS", path)
    assert answer.status == 200 and answer.body == b""
    assert set(answer.headers["allow"].split(", ")) == ALLOWED[path] | {"OPTIONS"}
    assert "access-control-allow-origin" not in answer.headers
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get"} - ALLOWED[path]:
        answer = face.client.request(method, path)
        assert answer.status == 405 and "allow" in answer.headers, (method, answer)
        if path.startswith("/api"):
            assert answer.json() == {"message": "The method is not allowed for the requested URL."}
        else:
            assert answer.headers["content-type"] == "text/html" and "<title>405 Method Not Allowed</title>" in answer.text
    if "HEAD" in ALLOWED[path] and path != FUNCTION:
        head = face.client.request("HEAD", path, headers=bearer(face.admin))
        assert head.status == 200 and head.body == b""


def test_users_by_large_numbers(face):
    for number in ("0", "007", "4294967297", "9223372036854775808", "1" * 200):
        answer = face.request("GET", "/api/v1/users/" + number, face.admin)
        assert (answer.status, answer.json()) == (404, NOT_FOUND) or number == "007" and answer.status in (200, 404)
    assert face.request("GET", "/api/v1/users/001", face.admin).json()["user"]["id"] == 1


def test_the_common_port_has_both(face):
    common = face.server.client(token=None)
    assert common.get("/api/v1/users").status == 401 and common.get("/auth/x").headers["content-type"] == "text/html"
    assert common.get("/swagger-ui").status == 200 and common.get("/swagger.json").json()["info"]["title"] == "neuro_api"
    # NEST Server's have one name below /api.
    for path in ("/", "/api", "/api/v1", "/auth", "/swagger"):
        assert common.get(path).text == "Unauthorized"
    assert common.get("/v1/auth/methods").status == 200


def test_nest_on_its_own_port(face):
    nest = face_client(face.server, "NEST Server")
    with_token = Client(nest.address, face.server.token)
    assert with_token.request("GET", "/", headers={"NESTServerAuth": face.server.token, "Accept": "text/html"}).status in (200, 503)
    for path in ("/v1/server", "/app/", "/api/v1/users", "/auth/login", "/swagger-ui", "/swagger.json"):
        answer = with_token.get(path)
        assert answer.status == 404 and "404 Not Found" in answer.text, (path, answer)
    assert nest.get("/").status == 403


def test_strange_hosts_are_refused(face):
    for path in ("/swagger-ui", "/auth/login", FUNCTION):
        assert face.client.request("GET", path, headers={"Host": "rebound.example"}).status == 421


def test_no_accounts(make_server):
    server = make_server(token=None, auth="none", face={"neuroapi": {"listen": "127.0.0.1:0"}})
    client = face_client(server)
    assert client.post("/auth/login", {"username": "a", "password": "b"}).status == 409
    assert client.get("/api/v1/users").status == 409
    call = {"function": "return_params", "params": {"params": 1}}
    assert client.post(FUNCTION, call).json() == {"result": 1}
    assert client.post(FUNCTION, call, headers={"Origin": "https://evil.example"}).status == 403


# ---- injection

EVIL = ["' OR '1'='1", "\"; DROP TABLE users; --", "admin'--", "{{7*7}}", "${jndi:ldap://x}", "<script>alert(1)</script>", "../../etc/passwd", "a\r\nX-Evil: 1", "%00",
        "\u0000", "$(id)", "`id`", "%s%n", "\u202e", "\\", "\ud800"]


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_texts_are_texts(face, evil):
    before = face.request("GET", "/api/v1/users?per_page=500", face.admin).json()
    quoted = "".join("%%%02x" % b for b in evil.encode("utf-8", "surrogatepass"))
    answers = [
        face.client.post("/auth/login", {"username": "attack-" + evil, "password": evil}),
        face.request("PUT", "/api/v1/users/1", face.admin, {"active": evil}),
        face.request("GET", "/api/v1/users?page=" + quoted, face.admin),
        face.request("GET", "/api/v1/users/" + quoted, face.admin),
        face.call(evil, {evil: evil}),
        face.call("run_cell", dict(CELL, **{evil: 1})),
        face.client.request("GET", FUNCTION + "?function=" + quoted + "&params=" + quoted),
        face.client.request("GET", "/api/v1/users", headers={"Authorization": "Bearer " + quoted}),
        face.client.request("GET", "/api/v1/users", headers={"Authorization": "Bearer " + sign({"exp": time.time() + 60, "identity": evil, "jti": evil, "type": "access"})}),
    ]
    for answer in answers:
        assert answer.status in (400, 401, 404, 422, 429), answer
        assert "x-evil" not in answer.headers
        if answer.headers["content-type"] == "text/html":
            assert evil not in answer.text or evil == "\\" or len(evil) < 2
    assert face.call("return_params", {"params": evil}).json() == {"result": evil}
    made = face.request("POST", "/api/v1/users", face.admin, {"username": evil, "email": evil, "password": GOOD})
    assert made.status in (201, 422), made
    if made.status == 201:  # a name like any other
        user = made.json()["user"]
        assert user["username"] == user["email"] == evil
        assert face.request("DELETE", "/api/v1/users/%d" % user["id"], face.admin).status == 200
    after = face.request("GET", "/api/v1/users?per_page=500", face.admin).json()
    assert before == after


def test_the_page_loads_nothing_from_elsewhere(face):
    page = face.client.get("/swagger-ui")
    assert not re.search(r"(?:src|href|action)\s*=\s*[\"']?(?:https?:)?//", page.text)
    assert "innerHTML" not in page.text and "eval(" not in page.text
    assert face.client.get("/swagger.json").json()["openapi"] == "3.0.2"
