"""Recorded exchanges with NeuroAPI: sent again, and compared to the byte.

Not compared, because no client can depend on it: Server, Date, Content-Length, the protocol's version, the tokens themselves, the bytes of
a picture (its size is), and the order of a user's fields, which changes between processes of the original.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import time

RECORDS = [json.loads(line) for line in
           (pathlib.Path(__file__).parent.parent / "data" / "neuroapi-exchanges.jsonl").read_text().splitlines()]
SECRET = "a secret of the tests, longer than 32 bytes"
PASSWORD = "four unrelated words"  # of admin, whose was "admin"
GOOD = "correct horse battery staple"  # of the others
FUNCTION = "/api/v1/function"
CELL = next(json.loads(r["request"]["body"])["params"] for r in RECORDS if r["name"] == "fn_run_cell_amp_pos")


def key_of(record):
    return ("dev" if record["server"] == "development" else "prod") + ":" + record["name"]


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims, secret=SECRET, head=None):
    text = _b64(json.dumps(head or {"typ": "JWT", "alg": "HS256"}).encode()) + "." + _b64(json.dumps(claims).encode())
    return text + "." + _b64(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def bearer(token):
    return {"Authorization": "Bearer " + token}


class Replay:
    """One server, brought into the state of each record before it is sent."""

    def __init__(self, client):
        self.client = client
        # The original's `init` makes this user, with this email.
        answer = client.request("PUT", "/api/v1/users/1", json_body={"email": "admin@mail.com"}, headers=bearer(self.login("admin", PASSWORD)["access_token"]))
        assert answer.status == 200, answer
        self.tokens = self.login("admin", PASSWORD)
        self.others = {}

    def login(self, username, password):
        answer = self.client.post("/auth/login", {"username": username, "password": password})
        assert answer.status == 200, answer
        return answer.json()

    def add(self, *names):
        for name in names:
            answer = self.client.post("/api/v1/users", {"username": name, "email": name + "@x.org", "password": GOOD}, headers=bearer(self.tokens["access_token"]))
            assert answer.status == 201, answer

    def before(self, key):
        """Calls that were made before this record, and are not in the excerpt."""
        if key == "dev:user_put":
            self.add("bob")
        if key == "dev:user_delete":
            self.others["bob"] = self.login("bobby", GOOD)["access_token"]
        if key == "dev:users_list_56":
            self.add(*("u%d" % i for i in range(55)))
        if key == "prod:users_list_page1":
            self.add("bob")
        if key == "prod:use_revoked_access":
            answer = self.client.request("DELETE", "/auth/revoke_access", headers=bearer(self.tokens["access_token"]))
            assert answer.status == 200, answer
        if key == "prod:users_follow_next":
            self.tokens = self.login("admin", PASSWORD)
            self.add(*("u%d" % i for i in range(54)))

    def authorization(self, key, recorded):
        """What the recorded header becomes with this server's tokens."""
        access, refresh = self.tokens["access_token"], self.tokens["refresh_token"]
        now = int(time.time())
        if not recorded or not recorded.startswith("Bearer ey"):
            return recorded
        if key == "dev:users_bad_sig":
            return "Bearer " + access[:-4] + "AAAA"
        if key == "dev:users_expired":
            return "Bearer " + sign(dict(claims_of(access), iat=now - 1000, nbf=now - 1000, exp=now - 10))
        if key == "dev:users_signed_but_unknown_jti":
            return "Bearer " + sign(dict(claims_of(access), jti="caf57eab-16a3-447d-9bac-cb72557fac00"))
        if key == "dev:token_of_deleted_user":
            return "Bearer " + self.others["bob"]
        kind = claims_of(recorded[7:])["type"]
        return "Bearer " + (refresh if kind == "refresh" else access)

    def send(self, record):
        key = key_of(record)
        self.before(key)
        request = record["request"]
        headers = dict(request["headers"])
        authorization = self.authorization(key, headers.get("Authorization"))
        if authorization:
            headers["Authorization"] = authorization
        body = request["body"]
        if body:
            body = body.replace('"password": "admin"', '"password": "%s"' % PASSWORD)
        return self.client.request(request["method"], request["path"], body=body, headers=headers)


_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_USER = re.compile(r'\{\s*"(?:username|active|email|id)"[^{}]*\}')


def _size(base64_text):
    data = base64.b64decode(base64_text + "=" * (-len(base64_text) % 4))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return "%d x %d" % struct.unpack(">II", data[16:24])


def view(status, content_type, text):
    """What is compared of an answer."""
    text = _TOKEN.sub("<token>", text)
    text = re.sub(r"b'(iVBOR[\w+/]{60})[^\"]*'", lambda m: "b'<picture %s>'" % _size(m.group(1)[:64]), text)
    text = _USER.sub(lambda m: "<user %s>" % json.dumps(json.loads(m.group()), sort_keys=True), text)
    if "...TRUNCATED" in text:
        text = text[:text.index("...TRUNCATED")]
    return {"status": status, "type": content_type, "text": text}


def recorded_view(record):
    response = record["response"]
    return view(response["status"], response["headers"].get("Content-Type"), response["body"])


def answer_view(record, answer):
    seen = view(answer.status, answer.headers.get("content-type"), answer.text)
    if "...TRUNCATED" in record["response"]["body"]:
        seen["text"] = seen["text"][:len(recorded_view(record)["text"])]
    return seen
