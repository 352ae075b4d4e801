"""The pages of accounts, as users and admins see them, in headless Chromium on a real server."""

import json
import os
import pathlib
import re

import pytest

from browser import drive

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
    client = server.client()
    user = client.post("/v1/users", {"username": name, "role": role})
    assert user.status == 201, user
    link = client.post("/v1/users/%s/reset" % user.json()["id"], {}).json()["link"]
    done = client.post("/v1/auth/reset", {"reset": link.partition("#reset=")[2], "new": password})
    assert done.status == 204, done
    return user.json()


def visit(what, server, **known):
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    result = drive("accounts.mjs", what, server.url, SHOTS, json.dumps(known), timeout=600)
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
    assert seen["left"] == [] and seen["otherAfter"] < 3000 and "ended" in seen["otherSaid"]
