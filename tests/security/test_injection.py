"""Hostile texts in every place of every native route: parts of the path, the query, each member of the body, headers.

The routes come from the server's own description, so that a new one is tried as well. What a text may do is to be refused or to be kept as
data; it may not be evaluated, open a file, split a header, or be an error of the server."""

import json
import re
import urllib.parse

import pytest
from accounts.test_accounts import PASSWORD, Desk

CANARY = "injected-7351"
TEXTS = [
    "' OR '1'='1' --", "x'; DROP TABLE users; --", '") OR 1=1 --', "%", "_", "\\'",
    "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "file:///etc/passwd", "....//",
    "x\r\nX-Injected: " + CANARY, "x\nSet-Cookie: a=" + CANARY,
    "{{7351*7}}", "${7351*7}", "<%= 7351*7 %>", "#{7351*7}", "$(echo %s)" % CANARY, "`id`", "; id", "| id", "__import__('os').system('id')", "%s%s%n", "{0.__class__}",
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)",
    "a\x00b", "\u202egpj.exe", "\U0001f9e0", "\ud800", "A" * 5000, "-1", "1e400", "NaN", "[]", "{}", "null", "*", "u_*", ".", "",
]
EVALUATED = (str(7351 * 7), "root:x:0", "uid=0", "uid=1")
BEFORE_ROUTES = ("bad percent escape in the path\n",)  # said by the parser of HTTP, whoever is asked
VALUES = [None, True, -1, 2**70, 1e308, [], {}, [[]], {"a": {"b": 1}}, ["x"] * 300]  # of kinds that nobody expects there


@pytest.fixture(scope="module")
def desk(module_server):
    desk = Desk(module_server(admin_password=PASSWORD))
    desk.user("anna", "member")
    desk.anna = desk.as_user("anna")
    return desk


@pytest.fixture(scope="module")
def routes(desk):
    described = desk.operator.get("/v1/openapi.json").json()
    found = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            parameters = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            found.append((method.upper(), path, content.get("example") or {}, parameters))
    assert len(found) > 70
    return found


def judge(wrong, client, method, target, body=None, headers=None):
    headers = dict({"Accept": "application/json"}, **(headers or {}))
    answer = client.request(method, target, json_body=body, headers=headers)
    text = answer.body.decode("utf-8", "replace")
    seen = [word for word in EVALUATED if word in text]
    # Data may come back with what was sent, as data; a header never does.
    kind = answer.headers.get("content-type", "")
    if "text/html" in kind:
        seen += [t for t in ("alert(1)", CANARY) if t in text]
    split = [name for name in ("x-injected", "set-cookie") if CANARY in str(answer.headers.get(name, ""))]
    if answer.status >= 500 or seen or split or (answer.status >= 400 and "problem+json" not in kind and text not in BEFORE_ROUTES) or ("text/html" in kind and not target.startswith("/v1/docs")):
        wrong.append((method, target[:120], str(body)[:120], answer.status, seen, split, text[:200]))
    return answer


def filled(path, value="nothing"):
    return re.sub(r"\{\w+\}", lambda _: urllib.parse.quote(value, safe="", errors="surrogatepass"), path)


# What would end this test's own sign-in, or fill its server, and is tried by tests of its own.
LEFT_OUT = {("POST", "/v1/auth/sign-out")}


@pytest.mark.parametrize("who", ["operator", "anna"])
def test_every_part_of_every_path_and_query(desk, routes, who):
    client, wrong, tried = getattr(desk, who), [], 0
    for method, path, example, parameters in routes:
        if (method, path) in LEFT_OUT:
            continue
        if "{" in path:
            for text in TEXTS[:-1]:
                judge(wrong, client, method, filled(path, text), {} if method in ("POST", "PUT", "PATCH") else None, {"Accept": "text/nothing"} if path.endswith("/stream") else None)
                tried += 1
        if method == "GET" and not path.endswith("/stream"):
            for name in [*parameters, "unknown"]:
                for text in TEXTS:
                    judge(wrong, client, method, filled(path) + "?" + urllib.parse.urlencode({name: text}, errors="surrogatepass"))
                    tried += 1
    assert not wrong, "%d of %d:\n%s" % (len(wrong), tried, "\n".join(map(str, wrong[:40])))
    assert desk.operator.get("/v1/health").status == 200


@pytest.mark.parametrize("who", ["operator", "anna"])
def test_every_member_of_every_body(desk, routes, who):
    client, wrong, tried = getattr(desk, who), [], 0
    for method, path, example, _ in routes:
        if (method, path) in LEFT_OUT or not isinstance(example, dict):
            continue
        # An engine or a session would really start: of those only what is in the wrong place is tried here.
        texts = [t for t in TEXTS if len(t) < 100][::3] if path in ("/v1/sessions",) else TEXTS
        for member in example:
            for value in [*texts, *VALUES]:
                if path == "/v1/sessions" and member != "engine":
                    body = dict(example, engine="none", **{member: value})
                else:
                    body = dict(example, **{member: value})
                judge(wrong, client, method, filled(path), body)
                tried += 1
    assert not wrong, "%d of %d:\n%s" % (len(wrong), tried, "\n".join(map(str, wrong[:40])))
    assert desk.operator.get("/v1/health").status == 200
    # The tables are still there, with the right people in them.
    names = [u["username"] for u in desk.operator.get("/v1/users?limit=500").json()["users"]]
    assert "anna" in names and "admin" in names


def test_headers(desk):
    wrong = []
    for text in TEXTS:
        text = text.replace("\r", "").replace("\n", "").replace("\x00", "").encode("ascii", "replace").decode()
        for header in ("Authorization", "NESTServerAuth", "Accept", "Content-Type", "Prefer", "Idempotency-Key", "X-Forwarded-For", "Last-Event-ID", "If-None-Match", "Cookie", "User-Agent", "Origin"):
            answer = judge(wrong, desk.anna, "POST", "/v1/sessions", {"engine": "none"}, {header: text})
            assert answer.status in (400, 401, 403, 404, 406, 415, 421, 431), (header, text, answer)
    assert not wrong, "\n".join(map(str, wrong[:40]))
    json.dumps(desk.operator.get("/v1/audit?limit=500").json())
