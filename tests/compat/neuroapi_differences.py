"""Where Myelin answers otherwise than NeuroAPI, on purpose: record → why, and what it answers instead.

The tests hold it to both sides: an answer that differs and is not listed fails; a listed one that does not differ, or is not the one that
is promised here, fails too. `python tests/compat/neuroapi_differences.py` prints docs/neuroapi-differences.md.
"""

import json
import pathlib


class Expect:
    def __init__(self, text, check):
        self.text, self.check = text, check


def says(status, wanted):
    """This status with this JSON; an ellipsis in place of a text is any text."""
    def same(a, b):
        if a is ...:
            return isinstance(b, str) and b
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return a == b

    def check(answer):
        assert answer.status == status and answer.headers["content-type"] == "application/json", answer
        assert same(wanted, json.loads(answer.text)), answer
    return Expect("%d `%s`" % (status, json.dumps(wanted, default=lambda _: "…", ensure_ascii=False)), check)


def html(status):
    def check(answer):
        assert answer.status == status and answer.headers["content-type"] == "text/html", answer
        assert "<title>%d " % status in answer.text, answer
    return Expect("%d, a page" % status, check)


def holds(text, predicate):
    def check(answer):
        assert answer.status == 200 and predicate(json.loads(answer.text)), answer
    return Expect("200, " + text, check)


def _own_page(answer):
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8", answer
    assert "<title>neuro_api - Swagger</title>" in answer.text and "//unpkg" not in answer.text, answer
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def _superset(document):
    import neuroapi_exchange
    recorded = next(json.loads(r["response"]["body"]) for r in neuroapi_exchange.RECORDS if r["name"] == "swagger_json")
    assert document["info"] == recorded["info"] and document["openapi"] == recorded["openapi"]
    for path, operations in recorded["paths"].items():
        for method, operation in operations.items():
            now = document["paths"][path][method]
            assert operation["tags"] == now["tags"] and set(operation["responses"]) <= set(now["responses"])
            for status, response in operation["responses"].items():
                assert response.get("content") == now["responses"][status].get("content"), (path, method, status)
    for name in ("UserSchema", "PaginatedResult"):
        assert document["components"]["schemas"][name] == recorded["components"]["schemas"][name]
    return set(document["paths"]["/api/v1/function"]) == {"get", "post"}


NO_500 = "What is wrong with a request is said; the original answers its debugger's page, or 500."
HASHED = "A changed password is hashed, and has 8 characters or more, none of the first that are guessed; all other sign-ins end."
PROD = "Tokens are refused in the same words in both modes; in production the original answers 500 on /api."
NAMES = "A function is one of a list of names, which are compared; the original evaluates the text."

DIFFERENCES = {
    "dev:login_malformed_json": (NO_500 + " (In production the original does too.)", html(400)),
    "dev:user_put_password": (HASHED, says(422, {"password": [...]})),
    "dev:login_after_password_put": (HASHED + " This one was refused above, so the old one still counts.", says(400, {"msg": "Bad credentials"})),
    "dev:users_list_56": ("A number is never given to a second user; the original gives those of deleted ones again.",
                          holds("the ids are 1, 3, 4, …", lambda v: v["total"] == 56 and v["pages"] == 2 and v["next"] == "/api/v1/users?page=2&per_page=50" and
                                [u["id"] for u in v["results"]] == [1, *range(3, 52)])),
    "dev:fn_unknown_function": (NAMES, says(404, {"error": ...})),
    "dev:swagger_ui": ("The page is this server's own and loads nothing from elsewhere.", Expect("200, a page of the same title", _own_page)),
    "prod:users_no_token": (PROD, says(401, {"msg": "Missing Authorization Header"})),
    "prod:users_list_page1": ("Pages work: `page`, and `page_size` or `per_page` (at most 500).", holds("the first page", lambda v: v["total"] == 2)),
    "prod:user_create_dup_username": ("A name or email that is taken is a conflict. (With the recorded password, which has three letters, 422 comes first.)",
                                      says(422, {"password": [...]})),
    "prod:use_revoked_access": (PROD, says(401, {"msg": "Token has been revoked"})),
    "prod:fn_unknown_function": (NAMES, says(404, {"error": ...})),
    "prod:users_follow_next": ("The links of a page can be followed.", holds("the last page", lambda v: len(v["results"]) == 6)),
    "prod:swagger_json": ("/api/v1/function, tokens, 401, 403, 409, 422 and 429 are described too; `required` is a list of names, as OpenAPI has it.",
                          holds("the same and more", _superset)),
}

GENERAL = """\
- The connection is kept open and speaks HTTP/1.1; `Server` and `Date` are this server's own. `X-Content-Type-Options: nosniff` is added, and
  `Cache-Control: no-store` where tokens are.
- The first admin's password is made and printed by `init`, never `admin`, and must be changed first: until then every route but login, revoking
  and `PUT` of the own password is 403 `{"msg": …}`. `SECRET_KEY` has 32 bytes or more.
- Listing, making, changing and deleting users needs the role admin (or a grant, `view:user:*`, `edit:user:*`); others get 403 `{"msg": …}`. One may
  see oneself, change one's own email and password, and delete oneself; not one's name or `active`. Whoever may edit users without being an
  admin can't touch admins. The last admin can't be deleted: 409. Users that are made here are members.
- Duplicate names and emails are 409 `{"message": …}`. Passwords of every route have 8 characters or more and are none of the first that are guessed,
  names have no control characters: 422 with the field.
- `page` that is no number, below 1 or beyond the last is 404, as in the library that the original uses.
- Wrong passwords are limited, per account and address: 429 `{"msg": …}` with `Retry-After`. An account that is not active is 403 at login, and its
  tokens are void.
- `POST /auth/login` with JSON that is no object, or names that are no text, is 400 "Missing username or password"; the original answers 500.
- Beside the tokens of `/auth/login`, those of `/v1/auth/sign-in` and `/v1/tokens` are accepted; `revoke_access` takes those of a sign-in only.
- A value or text that JSON has no place for in the original (a recursion too deep, bytes that are not UTF-8) is 400.
- `run_cell` is computed by this server, for each request apart: no NEURON, no shared figure. `amp: 0` is one run without a stimulus, where the original
  draws the last caller's picture. Axes of pictures have numbers. `tstop` is at most 5000 ms without a token and 60000 ms with one, and `dur`
  must end after it starts: else 400 `{"error": …}`. Whole numbers that are `true` or `false` count as 1 and 0, as in Python.
- Messages of `run_cell` for values of a wrong type are the original's where they are known (docs/neuroapi.md), else say which field must be what.
- `functions.public = false` makes /api/v1/function need an access token."""


def render():
    import neuroapi_exchange as exchange  # beside this file

    by_key = {exchange.key_of(r): r for r in exchange.RECORDS}
    lines = ["# Differences from NeuroAPI", "",
             "Every recorded exchange with NeuroAPI (`tests/data/neuroapi-exchanges.jsonl`, in its modes development and production) is sent to Myelin by a",
             "test. Answers are the same to the byte but for those listed here, each with its reason.", "",
             "This file is made by `tests/compat/neuroapi_differences.py`; a test compares them.", "", "## In general", "", GENERAL, "", "## One by one", "",
             "| record | request | NeuroAPI | Myelin | why |", "|---|---|---|---|---|"]

    def cell(text, limit=70):
        text = " ".join(text.split()).replace("|", "\\|")
        return text if len(text) <= limit else text[:limit] + "…"

    for key, (reason, expect) in DIFFERENCES.items():
        record = by_key[key]
        request = record["request"]["method"] + " " + record["request"]["path"]
        if record["request"]["body"]:
            request += " " + record["request"]["body"]
        was = str(record["response"]["status"])
        was += " page" if record["response"]["body"].lstrip().startswith("<") else " `%s`" % cell(record["response"]["body"], 50)
        lines.append("| %s | `%s` | %s | %s | %s |" % (key, cell(request), was, expect.text.replace("|", "\\|"), reason))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    print(render(), end="")
