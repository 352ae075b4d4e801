"""The pages of accounts, as users and admins see them, in headless Chromium on a real server."""

import json
import os
import pathlib
import re

import pytest

from browser import drive
from conftest import add_user

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOTS = os.environ.get("MYELIN_SHOTS", "")  # a folder for pictures of the views
GOOD = "five-green-kettles-hum"


@pytest.fixture(scope="module", autouse=True)
def built():
    if not (ROOT / "web" / "dist" / "index.html").is_file():
        pytest.skip("web/dist is not built: `make web` does it")


@pytest.fixture
def lab(make_server):
    """A server of the test's own: it counts failed sign-ins, and has users."""
    return make_server()


def add(server, name, role="member", password=GOOD):
    """A user who has chosen their password."""
    return add_user(server, name, role, password)


def visit(what, server, base=None, **known):
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    result = drive("accounts.mjs", what, base or server.url, SHOTS, json.dumps(known), timeout=600)
    assert result["errors"] == [] and result["foreign"] == [], result
    return result


def test_a_user_signs_in_by_password_works_and_signs_out(lab):
    add(lab, "anna")
    seen = visit("signin", lab, user="anna", password=GOOD)
    assert seen["focused"] == "username" and seen["wrong"] == "Unknown user or wrong password."
    # No script of the page can read what it is signed in with.
    assert seen["tokens"] == [{"name": "__Host-myelin", "httpOnly": True, "secure": True, "sameSite": "Strict"}]
    assert "myelin-token" not in seen["kept"] and GOOD not in seen["kept"] and "accessToken" not in seen["kept"]
    assert "one two" in seen["output"] and "reconnecting" not in " ".join(seen["pills"]) and seen["user"] == "anna"
    assert "Runs" in seen["nav"] and "Users" not in seen["nav"]
    assert seen["left"] == [] and seen["otherAfter"] < 3000 and "ended" in seen["otherSaid"]


def test_a_password_that_an_admin_knows_is_changed_before_all_else(lab):
    made = lab.client().post("/v1/users", {"username": "bob", "role": "member", "password": GOOD})
    assert made.status == 201 and made.json()["must_change_password"]
    seen = visit("mustChange", lab, user="bob", password=GOOD, fresh="nine-slow-trains-sing")
    assert seen["only"]["navigation"] == 0
    assert seen["differ"] == "The two are not the same." and seen["old"] == "The old password is wrong."
    assert "first that are guessed" in seen["weak"] and seen["focused"] == "new-password"
    assert seen["heading"] == "Runs"  # where they wanted to go


def test_refusals_say_why_and_how_long(lab):
    inactive = add(lab, "gone")
    assert lab.client().request("PATCH", "/v1/users/" + inactive["id"], json_body={"active": False}).status == 200
    add(lab, "anna")
    seen = visit("refused", lab, user="anna", inactive="gone", password=GOOD)
    assert "not active" in seen["inactive"]
    assert re.fullmatch(r"Too many failed attempts: wait \d+ (s|minutes)\.", seen["wait"]) and seen["disabled"]
    assert seen["later"] != seen["wait"]


def test_over_plain_http_from_elsewhere_there_is_the_token_only(make_server):
    server = make_server(allowed_hosts=["lab.test"])
    add(server, "anna")
    token = server.client().post("/v1/tokens", {"name": "notebook", "user": "anna"}).json()["token"]
    seen = visit("plainHttp", server, base="http://lab.test:%d" % server.address[1], token=token)
    assert "over https" in seen["text"] and seen["others"] == 0 and seen["user"] == "anna"


def test_a_link_sets_a_password_once(lab):
    user = lab.client().post("/v1/users", {"username": "bob"}).json()
    link = lab.client().post("/v1/users/%s/reset" % user["id"], {}).json()["link"]
    seen = visit("reset", lab, user="bob", password=GOOD, link=link)
    assert link.partition("#reset=")[2] not in seen["address"] and "first that are guessed" in seen["weak"]
    assert "This link was used" in seen["used"]


def test_an_account_has_tokens_that_programs_use(lab):
    add(lab, "anna")
    seen = visit("account", lab, user="anna", password=GOOD, fresh="nine-slow-trains-sing")
    full = lab.client(token=seen["tokens"]["all"])
    me = full.get("/v1/me").json()
    assert (me["username"], me["email"], me["scopes"]) == ("anna", "anna@lab.example", None)
    assert full.post("/v1/sessions", {"engine": "python", "name": "by token"}).status == 201
    assert [(one["name"], one["scopes"]) for one in full.get("/v1/tokens").json()["tokens"]] == [("notebook", None)]
    assert lab.client(token=seen["tokens"]["bounded"]).get("/v1/me").status == 401  # revoked
    assert "already" in seen["twice"]
    assert not any(secret in seen["text"] for secret in seen["tokens"].values())
    bounded = [one for one in lab.client().get("/v1/audit?action=token.add").json()["entries"] if "bounded" in one["detail"]]
    assert len(bounded) == 1


def test_admins_manage_users_and_read_what_was_done(lab):
    add(lab, "root of all", role="admin")
    add(lab, "anna")
    assert lab.client().request("DELETE", "/v1/users/admin").status == 204  # the one that each server begins with
    group = lab.client().post("/v1/groups", {"name": "teaching"}).json()["id"]
    for _ in range(30):  # for a second page of the log
        for method in ("PUT", "DELETE"):
            assert lab.client().request(method, "/v1/groups/%s/members/anna" % group).status == 204
    seen = visit("users", lab, admin="root of all", user="anna", password=GOOD)
    assert "already" in seen["taken"] and "/app/#reset=" in seen["link"]
    assert len(seen["found"]) == 1 and seen["found"][0].startswith("anna")
    assert seen["outAfter"] < 3000 and "ended" in seen["outSaid"] and "not active" in seen["refused"]
    assert "last admin" in seen["last"] and seen["role"] == "admin"
    assert len(seen["removed"]) == 2 and "carla" in seen["removed"][0] and "root of all" in seen["removed"][0]
    assert seen["rows"] == 50 and seen["all"] > 50
    names = {one["username"]: one["active"] for one in lab.client().get("/v1/users").json()["users"]}
    assert names == {"root of all": True, "anna": False}


def test_groups_and_grants_open_a_session_to_others(lab):
    add(lab, "root of all", role="admin")
    add(lab, "anna")
    session = lab.client().post("/v1/sessions", {"engine": "python", "name": "lesson"}).json()["id"]
    seen = visit("groups", lab, admin="root of all", user="anna", password=GOOD, session=session)
    assert "no such user" in seen["unknown"] and "view, use or edit" in seen["wrong"]
    assert seen["means"] == "They may see and use the session %s." % session
    buttons = " ".join(seen["buttons"])
    assert "Run" in buttons and "Branch" in buttons and "End" not in buttons


def test_a_shared_link_lets_one_look_and_nothing_else(lab):
    add(lab, "anna")
    token = lab.client().post("/v1/tokens", {"name": "setup", "user": "anna"}).json()["token"]
    client = lab.client(token=token)
    session = client.post("/v1/sessions", {"engine": "python", "name": "to be shown"}).json()["id"]
    assert client.post("/v1/sessions", {"engine": "python", "name": "private work"}).status == 201
    kept = client.post("/v1/sessions/%s/exec" % session, {"source": "print('seen by all')\nv = [1.0, 2.0, 4.0]", "return": ["v"], "keep": True, "title": "kept for all"})
    run = kept.headers["myelin-run"]
    seen = visit("share", lab, user="anna", password=GOOD, session=session, run=run, sessionName="to be shown", runName="kept for all")
    for kind, address in (("session", "#/session/" + session), ("run", "#/runs/" + run)):
        view = seen["views"][kind]
        assert re.fullmatch(r"%s/app/#token=[0-9a-f]+&open=%s/\w+" % (lab.url, kind), seen["links"][kind])
        assert view["address"].endswith(address) and view["links"] == 0 and view["editors"] == 0 and view["alerts"] == [], view
        buttons = " ".join(view["buttons"])
        assert "Leave" in buttons
        for word in ("▶", "Branch", "End", "Delete", "Share", "again", "Rewind", "Keep"):
            assert word not in buttons, buttons
    assert "kept for all" in seen["views"]["run"]["text"]
    assert "seen by all" in seen["views"]["session"]["text"]  # printed before anybody looked
    assert all("no longer works" in text for text in seen["over"]), seen["over"]
    assert seen["lists"] == []  # other names are not even asked for
    shared = seen["links"]["session"].partition("token=")[2].partition("&")[0]
    assert lab.client(token=shared).get("/v1/sessions/" + session).status == 401  # ended in the dialog


def test_names_that_are_markup_are_shown_as_text(lab):
    markup = "<img src=x onerror=window.ran=1><b class=x>&amp;"
    add(lab, "root of all", role="admin")
    client = lab.client()
    add(lab, markup)
    group = client.post("/v1/groups", {"name": markup})
    assert group.status == 201
    assert client.request("PUT", "/v1/groups/%s/members/root%%20of%%20all" % group.json()["id"]).status == 204
    assert client.post("/v1/grants", {"grant": "view:session:" + markup, "group": markup}).status == 201
    assert client.post("/v1/tokens", {"name": markup, "user": "root of all"}).status == 201
    seen = visit("markup", lab, admin="root of all", password=GOOD, markup=markup)
    assert seen["dialogs"] == [] and seen["ran"]
    assert all(view == {"found": 0, "text": True} for view in seen["views"].values()), seen["views"]


def test_nest_desktop_has_a_token_of_its_own_by_the_cookie(lab):
    add(lab, "anna")
    if lab.client().get("/desktop/").status != 200:
        pytest.skip("NEST Desktop is not installed")
    seen = visit("desktop", lab, user="anna", password=GOOD)
    assert seen["status"] == 200 and "myelin-token" not in seen["kept"] and GOOD not in seen["kept"]
    token = json.loads(json.loads(seen["kept"])[0]["nest-backend-store"])["state"]["accessToken"]
    me = lab.client(token=token).get("/v1/me").json()
    assert me["scopes"] == ["use:session:*"] and me["username"] == "anna"


def test_a_guest_sees_what_was_granted(lab):
    add(lab, "eve", role="guest")
    seen = visit("guest", lab, user="eve", password=GOOD)
    assert "Nothing yet" in seen["start"] and "New session" not in seen["start"] and "▶ Run" not in seen["start"]
    assert "Guests have no tokens" in seen["account"]
    assert len(seen["dialogs"]) == 1 and "Users" not in seen["nav"] and "NEST Desktop" not in seen["nav"]


def test_everything_fits_a_phone_has_names_and_shows_its_focus(lab):
    add(lab, "root of all", role="admin")
    add(lab, "someone with a rather long name for a phone", role="guest")
    lab.client().post("/v1/groups", {"name": "teaching"})
    lab.client().request("PUT", "/v1/groups/teaching/members/root%20of%20all")
    lab.client().post("/v1/grants", {"grant": "use:function:*", "group": "teaching"})
    lab.client().post("/v1/tokens", {"name": "notebook", "user": "root of all", "scopes": ["use:session:*", "view:run:*"]})
    seen = visit("phone", lab, admin="root of all", password=GOOD)
    assert set(seen["over"].values()) == {0}, seen["over"]
    assert seen["unseen"] == [] and seen["nameless"] == []


@pytest.mark.skipif(not SHOTS, reason="MYELIN_SHOTS names no folder")
def test_pictures_for_the_documentation(lab):
    client = lab.client()
    for name, role in (("anna", "admin"), ("ben", "member"), ("carla", "guest")):
        add(lab, name, role)
    client.post("/v1/users", {"username": "dora", "email": "dora@lab.example"})
    client.request("PATCH", "/v1/users/ben", json_body={"email": "ben@lab.example"})
    client.request("PATCH", "/v1/users/anna", json_body={"email": "anna@lab.example"})
    for group, members in (("teaching", ("anna", "ben")), ("modellers", ("anna", "carla"))):
        client.post("/v1/groups", {"name": group})
        for member in members:
            client.request("PUT", "/v1/groups/%s/members/%s" % (group, member))
    client.post("/v1/grants", {"grant": "use:session:*", "user": "carla"})
    client.post("/v1/grants", {"grant": "view:run:*", "group": "teaching"})
    client.post("/v1/tokens", {"name": "notebook", "user": "anna", "expires_in_s": 90 * 86400})
    client.post("/v1/tokens", {"name": "cluster jobs", "user": "anna", "scopes": ["use:session:*", "view:run:*"], "expires_in_s": 365 * 86400})
    assert client.request("DELETE", "/v1/users/admin").status == 204
    visit("pictures", lab, admin="anna", password=GOOD)
