"""Who may call what: every native route, asked by everybody, judged by what the route table itself says that it needs (x-needs).

A route that is not in the description can't be asked for; one whose need nobody knows here fails."""

import itertools
import re

import pytest
from accounts.test_accounts import PASSWORD, Desk, bearer
from conftest import Session

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
