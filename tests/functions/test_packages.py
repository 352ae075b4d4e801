"""Packages that users write themselves: drafts, checks, trials, versions; MOD files."""

import subprocess

import pytest

from conftest import BINARY, wait_until
from functions.conftest import call, value

LEAKY = """NEURON {
    SUFFIX leaky
    NONSPECIFIC_CURRENT i
    RANGE g, e
}
PARAMETER { g = 0.001 e = -65 }
ASSIGNED { v i }
BREAKPOINT { i = g*(v-e) }
"""
CELL = """
from typing import Annotated
from myelin.function import Range, Unit, function
from neuron import h

@function(engine="neuron", deterministic=True)
def rest(g: Annotated[float, Unit("S/cm2"), Range(0, 1)] = 0.01):
    h.load_file("stdrun.hoc")
    s = h.Section(name="s")
    s.insert("leaky")
    s(0.5).leaky.g = g
    h.finitialize(-70)
    h.continuerun(5)
    return {"v": s(0.5).v}
"""


def put(client, path, text):
    answer = client.request("PUT", "/v1/packages/" + path, text, {"Content-Type": "text/plain"})
    assert answer.status == 201, answer


def check(client, package):
    answer = client.post("/v1/packages/%s/check" % package, {})
    assert answer.status == 200, answer
    return answer.json()


def test_from_a_draft_to_versions(user):
    anna, ben = user(), user()
    put(anna, "alpha/files/alpha.py", "def f(x: float = 1.0):\n    return x + 1\n")
    checked = check(anna, "alpha")
    assert checked["ok"] and checked["functions"][0]["schema"]["properties"]["x"]["type"] == "number"
    assert anna.post("/v1/packages/alpha/try/f", {"parameters": {"x": 2}}).json()["data"] == 3
    assert anna.post("/v1/packages/alpha/try/f", {"parameters": {"x": "a"}}).status == 422
    assert call(anna, "alpha.f").status == 404  # not published yet
    assert anna.post("/v1/packages/alpha/publish", {"to": "me"}).json()["version"] == 1
    assert value(anna, "alpha.f") == 2 and call(ben, "alpha.f").status == 404
    put(anna, "alpha/files/alpha.py", "def f(x: float = 1.0):\n    return x + 10\n")
    assert value(anna, "alpha.f") == 2  # the draft is not what is published
    assert anna.post("/v1/packages/alpha/publish", {"to": "all"}).json()["version"] == 2
    assert value(ben, "alpha.f") == 11 and value(anna, "alpha.f?version=1") == 2
    assert call(ben, "alpha.f?version=1").status == 404  # it was for its author alone
    assert call(ben, "alpha.f?version=3").status == 404
    shown = anna.get("/v1/packages/alpha").json()
    assert [v["version"] for v in shown["versions"]] == [1, 2] and shown["published"] == {"version": 2, "to": "all"}
    assert ben.get("/v1/packages/alpha").status == 404 and ben.get("/v1/packages/alpha/files/alpha.py").status == 404
    assert anna.request("DELETE", "/v1/packages/alpha").status == 204
    assert call(anna, "alpha.f").status == 404 and call(ben, "alpha.f?version=1").status == 404
    assert anna.get("/v1/packages/alpha/files/alpha.py").text.startswith("def f")
    assert anna.request("DELETE", "/v1/packages/alpha?files").status == 204
    assert anna.get("/v1/packages/alpha/files/alpha.py").status == 404


def test_a_version_becomes_the_draft_again(user):
    anna, ben = user(), user()
    put(anna, "again/files/again.py", "def f():\n    return 1\n")
    put(anna, "again/files/parts/one.py", "x = 1\n")
    assert anna.post("/v1/packages/again/publish", {"to": "me"}).json()["version"] == 1
    assert anna.request("DELETE", "/v1/packages/again/files/parts/one.py").status == 204
    put(anna, "again/files/parts.py", "x = 2\n")
    put(anna, "again/files/again.py", "def f():\n    return 2\n")
    assert anna.post("/v1/packages/again/publish", {"to": "me"}).json()["version"] == 2
    restored = anna.post("/v1/packages/again/restore", {"version": 1})
    assert restored.status == 200 and sorted(f["path"] for f in restored.json()["files"]) == ["again.py", "parts/one.py"]
    assert anna.get("/v1/packages/again/files/again.py").text.endswith("return 1\n") and value(anna, "again.f") == 2
    assert anna.post("/v1/packages/again/publish", {"to": "me"}).json()["version"] == 3 and value(anna, "again.f") == 1
    for version in (0, 9, -1):
        assert anna.post("/v1/packages/again/restore", {"version": version}).status == 404
    for body in ({}, {"version": "1"}, {"version": 1, "to": "all"}):
        assert anna.post("/v1/packages/again/restore", body).status == 400, body
    assert ben.post("/v1/packages/again/restore", {"version": 1}).status == 404
    assert anna.request("DELETE", "/v1/packages/again?files").status == 204
    assert anna.post("/v1/packages/again/restore", {"version": 1}).status == 200  # of a withdrawn one too, while its files are kept


def test_publishing_what_is_broken_or_taken(user, folder, client):
    anna, ben = user(), user()
    put(anna, "beta/files/beta.py", "def f(:\n")
    checked = check(anna, "beta")
    assert not checked["ok"] and checked["errors"] == [{"file": "beta.py", "line": 1, "text": "SyntaxError: invalid syntax"}]
    for answer in (anna.post("/v1/packages/beta/publish", {"to": "me"}), anna.post("/v1/packages/beta/try/f", {})):
        assert answer.status == 409 and answer.json()["code"] == "broken" and answer.json()["line"] == 1
    put(anna, "beta/files/beta.py", "_x = 1\n")
    assert anna.post("/v1/packages/beta/publish", {"to": "me"}).status == 409
    put(anna, "beta/files/beta.py", "def f(): return 'anna'\n")
    for to in ("", "nobody", "group:", "group:a,,b", "group:a\nb", "../x"):
        assert anna.post("/v1/packages/beta/publish", {"to": to}).status == 400, to
    assert anna.post("/v1/packages/beta/publish", {"to": "public"}).status == 403
    assert anna.post("/v1/packages/beta/publish", {"to": "all"}).status == 201
    put(ben, "beta/files/beta.py", "def f(): return 'ben'\n")
    assert ben.post("/v1/packages/beta/publish", {"to": "all"}).status == 409
    assert ben.post("/v1/packages/beta/publish", {"to": "me"}).status == 201
    assert value(ben, "beta.f") == "ben" and value(anna, "beta.f") == "anna"
    folder.put("taken.py", "def f(): return 'operator'\n")
    assert value(anna, "taken.f") == "operator"
    put(anna, "taken/files/taken.py", "def f(): return 'anna'\n")
    assert anna.post("/v1/packages/taken/publish", {"to": "all"}).status == 409


def test_a_group_is_for_its_members(user, functions_server):
    anna, ben = user(), user()
    put(anna, "gamma/files/gamma.py", "def f(): return 1\n")
    assert anna.post("/v1/packages/gamma/publish", {"to": "group:physiology"}).status == 201
    assert value(anna, "gamma.f") == 1 and call(ben, "gamma.f").status == 404

    carla, operator = user(), functions_server.client()
    group = operator.post("/v1/groups", {"name": "physiology"}).json()["id"]
    assert operator.request("PUT", "/v1/groups/%s/members/%s" % (group, carla.get("/v1/me").json()["id"])).status == 204
    wait_until(lambda: call(carla, "gamma.f").status == 200, "the group's function for its new member")
    # What takes a while is theirs, too: a sweep, a kept call, and its repetition.
    points = {"function": "gamma.f", "points": [{}, {}]}
    sweep = carla.post("/v1/sweeps", points)
    assert sweep.status == 202, sweep
    assert ben.post("/v1/sweeps", points).status == 404
    kept = carla.post("/v1/functions/gamma.f", {"keep": True})
    assert kept.status == 200, kept
    again = carla.post("/v1/runs/%s/rerun" % kept.headers["myelin-run"])
    assert again.status == 202, again
    operator.request("DELETE", "/v1/groups/%s/members/%s" % (group, carla.get("/v1/me").json()["id"]))
    wait_until(lambda: call(carla, "gamma.f").status == 404, "the end of the membership")
    assert carla.post("/v1/runs/%s/rerun" % kept.headers["myelin-run"]).status == 404
    assert carla.post("/v1/sweeps", points).status == 404


def test_groups_of_any_name_and_none_that_inherits(user, functions_server):
    anna, ben, operator = user(), user(), functions_server.client()
    bens = ben.get("/v1/me").json()["id"]

    def group(name):
        made = operator.post("/v1/groups", {"name": name})
        assert made.status == 201, made
        assert operator.request("PUT", "/v1/groups/%s/members/%s" % (made.json()["id"], bens)).status == 204
        return made.json()["id"]

    put(anna, "eta/files/eta.py", "def f(): return 1\n")
    for name, to, left in (("Neuro 2025", "group:Neuro 2025", "me"), ("Übung", "group:others,Übung", "group:others")):
        first = group(name)
        assert anna.post("/v1/packages/eta/publish", {"to": to}).status == 201
        assert value(ben, "eta.f") == 1
        assert operator.request("DELETE", "/v1/groups/" + first).status == 204
        group(name)
        assert name in ben.get("/v1/me").json()["groups"] and call(ben, "eta.f").status == 404
        assert anna.get("/v1/packages/eta").json()["published"]["to"] == left and value(anna, "eta.f") == 1
    assert operator.post("/v1/groups", {"name": "a,b"}).status == 400  # "group:a,b" is two


def test_a_token_for_one_function_calls_no_other(user, functions_server):
    anna = user()
    put(anna, "kappa/files/kappa.py", "def f(): return 1\ndef g(): return 2\n")
    assert anna.post("/v1/packages/kappa/publish", {"to": "me"}).status == 201
    made = anna.post("/v1/tokens", {"name": "narrow", "scopes": ["use:function:kappa.f"]})
    assert made.status == 201, made
    narrow = functions_server.client(made.json()["token"])
    assert value(narrow, "kappa.f") == 1
    assert call(narrow, "kappa.g").status == 404
    # Nor does another version of the other's let it in; what was published for its author stays theirs.
    put(anna, "kappa/files/kappa.py", "def f(): return 11\n")
    assert anna.post("/v1/packages/kappa/publish", {"to": "all"}).status == 201
    assert call(narrow, "kappa.g?version=1").status == 404 and value(narrow, "kappa.f?version=1") == 1
    assert call(user(), "kappa.f?version=1").status == 404 and value(user(), "kappa.f") == 11
    for sweep in ({"function": "kappa.f", "points": [{}]}, {"function": "kappa.g", "points": [{}]}):
        assert narrow.post("/v1/sweeps", sweep).status == 403  # it may start no sweeps


def test_a_token_for_functions_reaches_nothing_else(user, functions_server):
    anna = user()
    put(anna, "lambda_/files/lambda_.py", "from myelin.function import File, Run, Session\ndef f(x: File): return x.read_text() if hasattr(x, 'read_text') else str(x)\n"
        "def r(x: Run): return str(x)\ndef s(x: Session): return str(x)\n")
    assert anna.post("/v1/packages/lambda_/publish", {"to": "me"}).status == 201
    session = anna.post("/v1/sessions", {"engine": "python"}).json()["id"]
    run = anna.post("/v1/sessions/%s/exec" % session, {"source": "secret = 'hidden-word'", "return": "secret", "keep": True}).headers["myelin-run"]
    assert anna.request("PUT", "/v1/files/private.txt", "hidden-word").status in (200, 201, 204)
    narrow = functions_server.client(anna.post("/v1/tokens", {"name": "functions", "scopes": ["use:function:*"]}).json()["token"])
    named = {"f": "private.txt", "r": run, "s": {"session": session, "names": ["secret"]}}
    for name, given in named.items():
        refused, allowed = (call(client, "lambda_." + name, x=given) for client in (narrow, anna))
        assert refused.status == 422 and "hidden" not in str(refused.json()) and "may not" in str(refused.json()), refused
        assert allowed.status == 200, allowed
    swept = {"session": session, "source": "y = secret", "return": "y", "points": [{"z": 1}]}
    assert narrow.post("/v1/sweeps", swept).status == 403 and anna.post("/v1/sweeps", swept).status == 202


def test_nobody_takes_a_short_name_from_the_others(user):
    anna, ben = user(), user()
    put(anna, "squat/files/squat.py", "def run_cell(): return 'squat'\n")
    assert anna.post("/v1/packages/squat/publish", {"to": "all"}).status == 201
    assert "v" in value(ben, "run_cell", tstop=10, dur=[1, 9]) and value(ben, "squat.run_cell") == "squat" and value(anna, "run_cell") == "squat"


@pytest.mark.parametrize("path", ["delta/files/..%2Fx.py", "delta/files/a%2F..%2F..%2Fx", "delta/files/.hidden", "delta/files/a%00b", "delta/files/a%20b", "1x/files/a.py",
                                  "a-b/files/a.py", "..%2Fdelta/files/a.py", "delta/files/" + "a" * 300, "delta/files/" + "/".join("abcdefghij"), "delta/files/"])
def test_paths_that_lead_elsewhere(client, path):
    assert client.request("PUT", "/v1/packages/" + path, "x").status in (400, 404), path
    assert client.get("/v1/packages/" + path).status in (400, 404), path


def test_sizes_are_bounded(user):
    anna = user()
    assert anna.request("PUT", "/v1/packages/big/files/a.py", "x" * (1 << 20)).status == 201
    assert anna.request("PUT", "/v1/packages/big/files/b.py", "x" * ((1 << 20) + 1)).status == 413
    for i in range(15):
        assert anna.request("PUT", "/v1/packages/big/files/p%d.txt" % i, "x" * (1 << 20)).status == 201
    assert anna.request("PUT", "/v1/packages/big/files/last.txt", "x").status == 507
    assert anna.request("DELETE", "/v1/packages/big?files").status == 204


def test_mod_files(user):
    anna = user()
    put(anna, "cell/files/cell.py", CELL)
    put(anna, "cell/files/mod/leaky.mod", LEAKY)
    checked = check(anna, "cell")
    assert checked["ok"] and checked["engine"] == "neuron", checked
    answer = anna.post("/v1/packages/cell/try/rest", {"parameters": {"g": 0.01}})
    assert answer.status == 200 and answer.json()["data"]["v"] == pytest.approx(-65, abs=1e-6), answer
    assert anna.post("/v1/packages/cell/publish", {"to": "all"}).status == 201
    assert call(user(), "cell.rest", g=0.02).status == 200
    for change, line in ((("i = g*(v-e)", "i + = g*(v-e)"), 8), (("i = g*(v-e)", "i = q*(v-e)"), 8), (("RANGE g, e", "RANGE g, e,"), None),
                         (("}\nASSIGNED", "}\nVERBATIM\nint broken = ;\nENDVERBATIM\nASSIGNED"), 8)):
        put(anna, "cell/files/mod/leaky.mod", LEAKY.replace(*change))
        checked = check(anna, "cell")
        assert not checked["ok"], change
        (error,) = checked["errors"]
        assert error["file"] == "mod/leaky.mod" and error["text"].startswith("MOD:"), error
        assert line is None or error["line"] == line, error
    # What is published goes on.
    assert call(user(), "cell.rest", g=0.03).status == 200


def test_an_admin_withdraws_and_passes_on_what_is_anothers(user, functions_server):
    anna, ben, operator = user(), user(), functions_server.client()
    name, other = (client.get("/v1/me").json()["username"] for client in (anna, ben))
    theirs = "?owner=" + name
    for package, to in (("mine", "me"), ("loud", "all"), ("moved", "all"), ("drawn", None)):
        put(anna, "%s/files/%s.py" % (package, package), "def f(): return 1\n")
        assert not to or anna.post("/v1/packages/%s/publish" % package, {"to": to}).status == 201
    for method, path in (("GET", ""), ("GET", "/loud"), ("GET", "/loud/files/loud.py"), ("DELETE", "/loud"), ("PATCH", "/loud")):
        assert ben.request(method, "/v1/packages" + path + theirs, json_body={"owner": other} if method == "PATCH" else None).status == 403, (method, path)
    for nobody in ("nobody", "..", "", "*"):
        assert operator.get("/v1/packages/loud?owner=" + nobody).status == 404
    packages = lambda owner: {p["name"]: p for p in operator.get("/v1/packages?owner=" + owner).json()["packages"] if p["owner"] == name}  # noqa: E731
    assert set(packages(name)) == {"mine", "loud", "moved", "drawn"} and packages(name)["loud"]["published"]["to"] == "all"
    assert operator.get("/v1/packages/mine/files/mine.py" + theirs).text.startswith("def f")

    assert operator.request("PATCH", "/v1/packages/moved" + theirs, json_body={"owner": other}).status == 204
    assert value(ben, "moved.f") == 1 and ben.get("/v1/packages/moved").json()["owner"] == other and anna.get("/v1/packages/moved").status == 404
    assert ben.get("/v1/packages/moved/files/moved.py").status == 200
    put(ben, "mine/files/mine.py", "x = 1\n")
    assert operator.request("PATCH", "/v1/packages/mine" + theirs, json_body={"owner": other}).status == 409
    assert operator.request("PATCH", "/v1/packages/drawn" + theirs, json_body={"owner": "nobody"}).status == 404

    assert operator.request("DELETE", "/v1/users/" + name).status == 204
    assert value(ben, "loud.f") == 1  # still there, and its name taken
    put(ben, "loud/files/loud.py", "def f(): return 'ben'\n")
    assert ben.post("/v1/packages/loud/publish", {"to": "all"}).status == 409
    ids = {p["owner_id"] for p in packages("*").values()}
    assert len(ids) == 1 and set(packages("*")) == set(packages(name)) == set(packages(ids.pop())) == {"mine", "loud", "drawn"}
    assert operator.request("DELETE", "/v1/packages/loud?files&owner=" + name).status == 204
    assert call(ben, "loud.f").status == 404 and set(packages(name)) == {"mine", "loud", "drawn"}  # that it was published is kept
    assert packages(name)["loud"]["published"] is None
    assert ben.post("/v1/packages/loud/publish", {"to": "all"}).status == 201
    assert operator.request("PATCH", "/v1/packages/drawn" + theirs, json_body={"owner": other}).status == 204
    assert ben.get("/v1/packages/drawn/files/drawn.py").status == 200


def test_functions_pass_to_the_heir(make_server, data_root, _counter):
    data = data_root / ("f%d" % next(_counter))
    server = make_server(data=data)

    def token(name):
        return server.client().post("/v1/tokens", {"name": name}).json()["token"]

    parent, heirs = server.client(token("parent")), token("heir")
    heir = server.client(heirs)
    for client, package, to in ((parent, "pub", "all"), (parent, "own", "me"), (parent, "drawn", None), (parent, "clash", "me"), (heir, "clash", "me")):
        put(client, "%s/files/%s.py" % (package, package), "def f(): return %r\n" % ("heir" if client is heir else "parent"))
        assert not to or client.post("/v1/packages/%s/publish" % package, {"to": to}).status == 201
    delete = [BINARY, "user", "delete", "parent", "--to", "heir", "--data", data]

    def told(*words):
        return subprocess.run(delete[:5] + list(words or delete[5:]), capture_output=True, text=True, timeout=60, env=server.environment)

    assert "no such user" in told("nobody", "--data", data).stderr
    done = told()
    assert done.returncode == 0, done
    for again in (False, True):
        if again:
            server.kill()
            refused = told()
            assert refused.returncode == 1 and "start it" in refused.stderr
            server = make_server(data=data)
        heir, operator, guest = server.client(heirs), server.client(), server.client(token("somebody%d" % again))
        assert value(heir, "pub.f") == value(heir, "own.f") == value(guest, "pub.f") == "parent" and value(heir, "clash.f") == "heir"
        assert call(guest, "own.f").status == 404
        assert {p["name"]: p["owner"] for p in heir.get("/v1/packages").json()["packages"]} == dict.fromkeys(("pub", "own", "drawn", "clash"), "heir")
        assert "parent" in heir.get("/v1/packages/drawn/files/drawn.py").text and "heir" in heir.get("/v1/packages/clash/files/clash.py").text
        kept = operator.get("/v1/packages?owner=parent").json()["packages"]
        assert [p["name"] for p in kept] == ["clash"] and len(kept[0]["versions"]) == len(kept[0]["files"]) == 1
        assert operator.get("/v1/users/parent").status == 404


def test_published_packages_survive_a_restart(make_server, data_root, _counter):
    data = data_root / ("f%d" % next(_counter))
    first = make_server(data=data)
    client = first.client()
    put(client, "stays/files/stays.py", "def f(): return 5\n")
    assert client.post("/v1/packages/stays/publish", {"to": "all"}).status == 201
    first.kill()
    second = make_server(data=data)
    assert value(second.client(), "stays.f") == 5
