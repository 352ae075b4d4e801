"""Who may call what: every native route, asked by everybody, judged by what the route table itself says that it needs (x-needs).

A route that is not in the description can't be asked for; one whose need nobody knows here fails."""

import itertools
import re
import subprocess

import pytest
from accounts.test_accounts import PASSWORD, Desk
from conftest import BINARY, ROOT, Session

OWNED = {"session", "run", "function", "file", "token"}  # kinds that users have; of the others an admin decides
# Where an empty body is refused before the object is looked for.
BODIES = {"/v1/sessions/{id}/rewind": {"checkpoint": "c_0123"}}
NUMBERS = itertools.count(1)
WHO = ("anonymous", "guest", "other", "granted", "owner", "admin")


@pytest.fixture(scope="module")
def desk(module_server):
    desk = Desk(module_server(admin_password=PASSWORD))
    for name, role in (("guest", "guest"), ("other", "member"), ("granted", "guest"), ("owner", "member"), ("admin2", "admin")):
        desk.user(name, role)
    desk.clients = {name: desk.as_user(user) for name, user in
                    (("guest", "guest"), ("other", "other"), ("granted", "granted"), ("owner", "owner"), ("admin", "admin2"))}
    desk.clients["anonymous"] = desk.server.client(None)
    return desk


@pytest.fixture(scope="module")
def routes(desk):
    described = desk.operator.get("/v1/openapi.json").json()
    found = [(method, path, operation["x-needs"]) for path, methods in described["paths"].items() for method, operation in methods.items()]
    assert len(found) > 70
    return found


class Objects:
    """Something of the owner's of each kind, made anew when a request may have ended it."""

    def __init__(self, desk):
        self.desk, self.known = desk, {}

    def get(self, kind, fresh):
        if fresh or kind not in self.known:
            self.known[kind] = getattr(self, kind)()
        return self.known[kind]

    def session(self):
        return Session(self.desk.clients["owner"], "python").id

    def run(self):
        session = self.get("session", False)
        answer = self.desk.clients["owner"].post("/v1/sessions/%s/exec" % session, {"source": "a = 1", "return": "a", "keep": True})
        if answer.status != 200:
            answer = self.desk.clients["owner"].post("/v1/sessions/%s/exec" % self.get("session", True), {"source": "a = 1", "return": "a", "keep": True})
        return answer.headers["myelin-run"]

    def user(self):
        return self.desk.user("somebody%d" % next(NUMBERS), password=None)["id"]

    def group(self):
        return self.desk.operator.post("/v1/groups", {"name": "group%d" % next(NUMBERS)}).json()["id"]


def allowed_of(needs):
    """who -> what is expected: the statuses, or a function that says whether a status is right."""
    passes = lambda status: status not in (401, 403)  # noqa: E731: the route itself may still find the empty body wrong
    unauthorized, forbidden = (lambda s: s == 401), (lambda s: s == 403)
    if needs == "open":
        return dict.fromkeys(WHO, lambda status: status != 403)
    if needs == "public":
        return dict(dict.fromkeys(WHO, passes), anonymous=lambda status: status in (200, 401))
    if needs in ("signed_in", "self", "view:server:*"):
        return dict(dict.fromkeys(WHO, passes), anonymous=unauthorized)
    action, kind, which = needs.split(":")
    assert action in ("view", "use", "edit") and which in ("*", "{}")
    expected = {"anonymous": unauthorized, "guest": forbidden, "granted": passes, "admin": passes}
    if kind not in OWNED:
        return dict(expected, other=forbidden, owner=forbidden)
    if which == "{}":
        return dict(expected, other=lambda status: status == 404, owner=passes)
    return dict(expected, other=passes, owner=passes)


@pytest.mark.parametrize("who", WHO)
def test_every_route(desk, routes, who):
    objects, wrong, checked = Objects(desk), [], 0
    for method, path, needs in routes:
        expected = allowed_of(needs)[who]
        kind = needs.split(":")[1] if ":" in needs else ""
        ends = method in ("delete", "patch") or path.endswith(("/rewind", "/reset", "/cancel"))
        target, grant = path, None
        first = True
        for place in re.findall(r"\{(\w+)\}", path):
            value = "nothing"
            if first and ":{}" in needs:
                value = objects.get(kind, fresh=ends)
            target = target.replace("{%s}" % place, value, 1)
            if first and ":{}" in needs and who == "granted":
                grant = desk.grant(needs.replace("{}", value), user="granted")
            first = False
        if ":*" in needs and who == "granted" and not needs.startswith("view:server"):
            grant = desk.grant(needs, user="granted")
        client = desk.clients[who]
        if path == "/v1/auth/sign-out" and who != "anonymous":
            client = desk.as_user({"admin": "admin2"}.get(who, who))  # a sign-in of its own, which this ends
        headers = {}
        if path.endswith("/stream"):
            headers["Accept"] = "text/nothing"  # who may is told that there is no such stream, and need not read one for ever
        answer = client.request(method.upper(), target, json_body=BODIES.get(path, {}) if method in ("post", "put", "patch") else None, headers=headers)
        checked += 1
        if not expected(answer.status):
            wrong.append((method, target, needs, answer.status, answer.body[:200] if hasattr(answer, "body") else ""))
        if grant:
            assert desk.operator.request("DELETE", "/v1/grants/" + grant).status == 204
    assert not wrong, "\n".join(map(str, wrong))
    assert checked == len(routes)


def test_another_users_things_are_not_listed(desk):
    owner, other = desk.clients["owner"], desk.clients["other"]
    objects = Objects(desk)
    session, run = objects.session(), objects.run()
    assert run in str(owner.get("/v1/runs").json()) and session in str(owner.get("/v1/sessions").json())
    for path in ("/v1/runs", "/v1/sessions", "/v1/jobs", "/v1/tokens", "/v1/packages"):
        text = str(other.get(path).json())
        assert run not in text and session not in text, path


# ---- the faces of NEST Server and NeuroAPI, whose routes stand in no description

FACES = ("anonymous", "guest", "member", "narrow", "fitting", "admin", "unready")
NEST = [("GET", "/", {}), ("GET", "/api", {}), ("GET", "/api/GetKernelStatus", {}), ("POST", "/api/GetKernelStatus", {"keys": "resolution"}),
        ("GET", "/exec?source=a=1", {}), ("POST", "/exec", {"source": "a = 1"})]
NEST += [(method, "/s/other" + path, body) for method, path, body in NEST]
# What is answered to each of FACES. A body that would be refused is enough where who asks is let in.
NEUROAPI = {
    ("POST", "/auth/login"): [400] * 7,
    ("POST", "/auth/refresh"): [401] + [422] * 6,  # these are no refresh tokens
    ("DELETE", "/auth/revoke_refresh"): [401] + [422] * 6,
    ("DELETE", "/auth/revoke_access"): [401] + [422] * 6,  # nor of a sign-in
    ("GET", "/api/v1/users"): [401, 403, 403, 403, 200, 200, 403],
    ("POST", "/api/v1/users"): [401, 403, 403, 403, 403, 422, 403],  # of scopes "view" is enough to look only
    ("GET", "/api/v1/users/<int:user_id>"): [401, 403, 403, 403, 200, 200, 403],
    ("PUT", "/api/v1/users/<int:user_id>"): [401, 403, 403, 403, 403, 200, 403],
    ("DELETE", "/api/v1/users/<int:user_id>"): [401, 403, 403, 403, 403, 200, 403],
    ("GET", "/api/v1/function"): [422] * 7,  # public
    ("POST", "/api/v1/function"): [422] * 7,
    ("GET", "/swagger.json"): [200] * 7,
    ("GET", "/swagger-ui"): [200] * 7,
}


@pytest.fixture(scope="module")
def callers(desk):
    """Holders of tokens of /v1/tokens for each of FACES; by the face other scopes are narrow, and fit."""

    def token(user, *scopes):
        made = desk.operator.post("/v1/tokens", dict({"name": "t%d" % next(NUMBERS), "user": user}, **({"scopes": list(scopes)} if scopes else {})))
        assert made.status == 201, made
        return desk.server.client(made.json()["token"])

    assert desk.operator.post("/v1/users", {"username": "unready", "password": "four unrelated words here"}).status == 201
    tokens = {"anonymous": desk.server.client(None), "guest": token("guest"), "member": token("other"), "admin": token("admin2"), "unready": token("unready")}
    nest = dict(tokens, narrow=token("other", "view:session:*", "edit:function:*"), fitting=token("other", "use:session:*"))
    return {"nest": nest, "neuroapi": dict(tokens, narrow=token("admin2", "edit:session:*"), fitting=token("admin2", "view:user:*"))}


def test_routes_of_nest_server(desk, callers):
    kinds = re.search(r"enum class Kind \{([^}]*)\}", (ROOT / "src/api/nest/face.hpp").read_text()).group(1)
    assert {kind.strip() for kind in kinds.split(",")} == {"root", "list", "call", "exec", "none"}, "NEST has all of them"
    wrong = []
    for method, path, body in NEST:
        for who in FACES:
            answer = callers["nest"][who].request(method, path, json_body=body if method == "POST" else None)
            lets_in = who in ("member", "fitting", "admin") or (path == "/" and who in ("guest", "narrow"))
            if answer.status != (200 if lets_in else 403):
                wrong.append((method, path, who, answer))
    assert not wrong, "\n".join(map(str, wrong))


def test_routes_of_neuroapi(desk, callers):
    listed = subprocess.run([BINARY, "neuroapi", "routes"], capture_output=True, text=True, timeout=60).stdout
    served = {(method, rule) for methods, rule in re.findall(r" ([A-Z]+(?:, [A-Z]+)*) +(/\S+)", listed) for method in methods.split(", ")}
    known = set(re.findall(r'path == "(/[^"]+)"', (ROOT / "src/api/neuroapi/face.cpp").read_text()))
    assert served == set(NEUROAPI) and known == {rule for _, rule in served if "<" not in rule}
    wrong = []
    for (method, rule), statuses in NEUROAPI.items():
        for who, status in zip(FACES, statuses, strict=True):
            client, path = callers["neuroapi"][who], rule
            if "<" in rule:
                path = rule.replace("<int:user_id>", str(desk.user("somebody%d" % next(NUMBERS), password=None)["number"]))
            headers = {} if who == "anonymous" else {"Authorization": "Bearer " + client.token}
            answer = client.request(method, path, json_body={} if method in ("POST", "PUT") else None, headers=headers)
            if answer.status != status:
                wrong.append((method, path, who, status, answer))
    assert not wrong, "\n".join(map(str, wrong))
