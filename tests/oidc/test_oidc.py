"""Signing in at an OpenID provider: at a real one (oidc-provider), and at one that does wrong in every way."""

import contextlib
import html
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
from conftest import BINARY, wait_until

HERE = pathlib.Path(__file__).resolve().parent
PAGE = {"Accept": "text/html,application/xhtml+xml"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SESSION, ATTEMPT = "__Host-myelin", "__Host-myelin-oidc"


class Browser:
    """Follows redirects and keeps cookies for each host and port, Secure ones too, as browsers do on their own machine."""

    def __init__(self, follow=True):
        self.cookies, self.attributes, self.follow, self.seen = {}, {}, follow, []

    def go(self, url, method="GET", body=None, headers=None, until=None):
        for _ in range(20):
            at = urllib.parse.urlsplit(url)
            if until and until(url):
                return url
            jar = self.cookies.setdefault(at.netloc, {})
            sent = dict(PAGE, **(headers or {}))
            if jar:
                sent["Cookie"] = "; ".join("%s=%s" % one for one in jar.items())
            connection = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
            connection.request(method, at.path + ("?" + at.query if at.query else ""), body, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    cookie, _, attributes = value.partition(";")
                    key, _, content = cookie.partition("=")
                    self.attributes[key] = attributes
                    if content:
                        jar[key] = content
                    else:
                        jar.pop(key, None)
            connection.close()
            self.seen.append((answer.status, url))
            self.status, self.url, self.text = answer.status, url, text
            if answer.status not in (301, 302, 303) or not self.follow:
                self.location = answer.getheader("Location")
                return text
            url, method, body, headers = urllib.parse.urljoin(url, answer.getheader("Location")), "GET", None, None
        raise AssertionError("too many redirects: %s" % self.seen)

    def of(self, server):
        return self.cookies.get(server.url[7:], {})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def node(script, *arguments):
    if shutil.which("node") is None:
        pytest.skip("node is not installed: `make test` does it")
    port = free_port()
    process = subprocess.Popen(["node", script, str(port), *arguments], cwd=HERE, stdout=subprocess.PIPE, text=True,
                               env={k: v for k, v in os.environ.items() if k != "NODE_OPTIONS"})
    try:
        for line in process.stdout:
            if line.startswith("listening"):
                break
        else:
            pytest.fail("%s did not start" % script)
        yield port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def real(*arguments):
    if not (HERE / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("oidc-provider is not installed: `make test` does it")
    return node("provider.mjs", *arguments)


@pytest.fixture(scope="module")
def institute():
    with real() as port:
        yield "http://127.0.0.1:%d" % port


def oidc(issuer, client="rs256", **more):
    settings = {"issuer": issuer, "client_id": client, "name": "Institute"}
    if client != "public":
        settings["client_secret"] = "secret of %s/+%%" % client
    return dict(settings, **more)


def through(browser, server, name, consent=True, **options):
    """From the button to where it ends: signs in at the provider as sub-NAME, and consents."""
    text = browser.go(server.url + "/v1/auth/oidc", **options)
    for _ in range(4):
        form = re.search(r'<form[^>]*action="([^"]+)"', text)
        if not form:
            return text
        prompt = re.search(r'name="prompt" value="(\w+)"', text).group(1)
        fields = {"prompt": prompt}
        if prompt == "login":
            fields.update(login="sub-" + name, password="any")
        action = urllib.parse.urljoin(browser.url, html.unescape(form.group(1)))
        if prompt == "consent" and not consent:
            action, fields = action + "/abort", None
        text = browser.go(action, "POST" if fields else "GET", urllib.parse.urlencode(fields) if fields else None, FORM if fields else None)
    return text


def me(browser, server):
    client = server.client(None)
    return client.get("/v1/me", headers={"Cookie": "; ".join("%s=%s" % one for one in browser.of(server).items())})


def failure(browser):
    """The code that the page to sign in is told, which is all that its address holds."""
    path, _, query = browser.url.rpartition("/app/")
    assert path and browser.url.count("?") <= 1, browser.url
    return query.removeprefix("?signin=")


def audit(server, action):
    return server.client().get("/v1/audit?action=" + action).json()["entries"]


# ---- a real provider


@pytest.mark.parametrize("client", ["rs256", "es256", "public"])
def test_the_whole_way_at_a_real_provider(make_server, institute, client):
    server = make_server(oidc=oidc(institute, client, default_role="member"))
    assert server.client(None).get("/v1/auth/methods").json()["providers"] == [{"name": "oidc", "title": "Institute"}]
    browser = Browser()
    through(browser, server, "anna")
    assert browser.url == server.url + "/app/" and failure(browser) == "", browser.seen
    cookies = browser.of(server)
    assert set(cookies) == {SESSION}  # what was remembered meanwhile is gone
    assert "HttpOnly" in browser.attributes[SESSION] and "SameSite=Strict" in browser.attributes[SESSION] and "Secure" in browser.attributes[SESSION]
    who = me(browser, server).json()
    assert who["username"] == "anna" and who["role"] == "member" and who["email"] == "anna@lab.example" and who["sign_in"] == "cookie"
    assert who["has_password"] is False
    user = server.client().get("/v1/users/anna").json()
    assert user["issuer"] == institute and user["subject"] == "sub-anna"
    assert [entry["actor"] for entry in audit(server, "sign_in")] == [who["id"]] and institute in audit(server, "sign_in")[0]["detail"]

    # Again: the same account; the provider still knows them, and asks nothing.
    again = Browser()
    again.cookies = {key: dict(value) for key, value in browser.cookies.items() if key != server.url[7:]}
    again.go(server.url + "/v1/auth/oidc")
    assert me(again, server).json()["id"] == who["id"]
    # Out, as always.
    left = server.client(None).post("/v1/auth/sign-out", headers={"Cookie": "%s=%s" % (SESSION, cookies[SESSION]), "Origin": server.url})
    assert left.status == 204 and me(browser, server).status == 401 and me(again, server).status == 200

    log = server.log_text()
    assert "secret of" not in log and "code=" not in log and cookies[SESSION] not in log


def test_claims_may_be_in_the_token_itself(make_server):
    with real("all") as port:
        server = make_server(oidc=oidc("http://127.0.0.1:%d" % port))
        browser = Browser()
        through(browser, server, "bob")
        assert me(browser, server).json()["username"] == "bob" and me(browser, server).json()["role"] == "guest"


def test_a_client_that_the_provider_signs_for_with_hs256_is_refused(make_server, institute):
    server = make_server(oidc=oidc(institute, "hs256"))
    browser = Browser()
    through(browser, server, "anna")
    assert failure(browser) == "sign_in_refused" and SESSION not in browser.of(server)
    assert "HS256" in server.log_text()


def test_who_does_not_consent_is_told_so(make_server, institute):
    server = make_server(oidc=oidc(institute))
    browser = Browser()
    through(browser, server, "carl", consent=False)
    assert failure(browser) == "sign_in_denied" and SESSION not in browser.of(server)


def test_a_wrong_client_secret_is_refused_and_not_told(make_server, institute):
    server = make_server(oidc=oidc(institute, client_secret="not this one"))
    browser = Browser()
    through(browser, server, "anna")
    assert failure(browser) == "sign_in_refused"
    assert "invalid_client" in server.log_text() and "not this one" not in server.log_text()


def test_a_code_is_worth_nothing_twice_or_without_its_cookie(make_server, institute):
    server = make_server(oidc=oidc(institute))
    mine = Browser()
    text = through(mine, server, "anna")
    back = next(url for _, url in mine.seen if "/callback?" in url)
    assert "code=" in back and text is not None
    # The same address again, with the cookie of the session and without.
    for browser in (mine, Browser()):
        browser.go(back)
        assert failure(browser) == "sign_in_expired"
    # A thief who begins a sign-in of their own has another state, nonce and verifier.
    thief = Browser(follow=False)
    thief.go(server.url + "/v1/auth/oidc")
    state = urllib.parse.parse_qs(urllib.parse.urlsplit(thief.location).query)["state"][0]
    thief.follow = True
    victim = Browser()
    victim.cookies = {key: dict(value) for key, value in mine.cookies.items()}
    stolen = victim.go(server.url + "/v1/auth/oidc", until=lambda url: "/callback?" in url)
    thief.go(re.sub(r"state=[^&]*", "state=" + state, stolen))
    assert failure(thief) == "sign_in_refused" and SESSION not in thief.of(server)
    # A cookie whose content was changed is none; a program is told by a problem.
    begun = Browser(follow=False)
    begun.go(server.url + "/v1/auth/oidc")
    cookie = begun.of(server)[ATTEMPT]
    forged = cookie[:-4] + ("aaaa" if cookie[-4:] != "aaaa" else "bbbb")
    answer = server.client(None).get("/v1/auth/oidc/callback?code=x&state=" + state, headers={"Cookie": "%s=%s" % (ATTEMPT, forged)})
    assert answer.status == 400 and answer.json()["code"] == "sign_in_expired"
    assert "SameSite=Lax" in begun.attributes[ATTEMPT] and "HttpOnly" in begun.attributes[ATTEMPT] and "Secure" in begun.attributes[ATTEMPT]


def test_groups_are_the_providers_to_say(make_server, institute):
    server = make_server(oidc=oidc(institute, groups_claim="groups"))
    admin = server.client()
    for name in ("teaching", "staff"):
        assert admin.post("/v1/groups", {"name": name}).status == 201
    browser = Browser()
    through(browser, server, "dora")
    assert me(browser, server).json()["groups"] == ["teaching"]
    dora = admin.get("/v1/users/dora").json()["id"]
    assert admin.request("PUT", "/v1/groups/staff/members/" + dora).status == 204
    browser.go(server.url + "/v1/auth/oidc")
    assert me(browser, server).json()["groups"] == ["teaching"]


def test_the_button_in_a_browser(make_server):
    from browser import drive

    if not (HERE.parents[1] / "web" / "dist" / "index.html").is_file():
        pytest.skip("web/dist is not built: `make web` does it")
    codes = re.findall(r'^constexpr Failure \w+\{\d+, "(\w+)"', (HERE.parents[1] / "src" / "api" / "v1" / "oidc.cpp").read_text(), re.MULTILINE)
    assert len(codes) >= 10
    with real("localhost") as port:
        server = make_server(oidc=oidc("http://localhost:%d" % port, default_role="member"))
        shots = os.environ.get("MYELIN_SHOTS", "")
        seen = drive("accounts.mjs", "provider", server.url, shots, json.dumps({"codes": [*codes, "<b>made up</b>"]}), timeout=200)
    assert seen["errors"] == [] and seen["user"] == "anna" and seen["url"] == server.url + "/app/#/account"
    assert seen["tokens"] == [{"name": SESSION, "httpOnly": True, "secure": True, "sameSite": "Strict"}] and seen["left"] == []
    assert "myelin-token" not in seen["kept"] and "accessToken" not in seen["kept"] and seen["wide"] == 0
    # Each code has a sentence of its own, and what has none is not repeated.
    assert len(set(seen["told"].values())) == len(codes) + 1 and "made up" not in seen["told"]["<b>made up</b>"]


# ---- accounts


@pytest.fixture
def fake():
    with node("fake.mjs") as port:
        yield Fake(port)


@pytest.fixture(scope="module")
def shared_fake():
    with node("fake.mjs") as port:
        yield Fake(port)


class Fake:
    def __init__(self, port):
        self.port, self.issuer = port, "http://127.0.0.1:%d" % port

    def plan(self, **plan):
        self._ask("POST", "/plan", json.dumps(plan))

    def seen(self, path):
        return self._ask("GET", "/seen").get(path, 0)

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def settings(self, **more):
        return dict({"issuer": self.issuer, "client_id": "lab", "client_secret": "hush"}, **more)


def enter(server):
    browser = Browser()
    browser.go(server.url + "/v1/auth/oidc")
    return browser


def test_a_name_that_a_local_account_has_is_not_taken_over(make_server, fake):
    server = make_server(oidc=fake.settings(default_role="member"))
    admin = server.client()
    local = admin.post("/v1/users", {"username": "anna", "email": "anna@lab.example"}).json()
    browser = enter(server)
    assert failure(browser) == "name_taken" and SESSION not in browser.of(server)
    refused = audit(server, "sign_in.failed")
    assert "sub-1" in refused[0]["detail"] and refused[0]["actor_name"] == fake.issuer
    # Linked by an admin, it is theirs.
    assert admin.request("PATCH", "/v1/users/anna", json_body={"issuer": fake.issuer, "subject": "sub-1"}).status == 200
    browser = enter(server)
    assert me(browser, server).json()["id"] == local["id"]
    # One person, one account.
    admin.post("/v1/users", {"username": "else"})
    taken = admin.request("PATCH", "/v1/users/else", json_body={"issuer": fake.issuer, "subject": "sub-1"})
    assert taken.status == 409
    assert admin.request("PATCH", "/v1/users/else", json_body={"subject": "sub-2"}).status == 400
    assert [entry["object"] for entry in audit(server, "user.link")] == [local["id"]]


def test_an_email_of_another_account_makes_no_link(make_server, fake):
    server = make_server(oidc=fake.settings())
    server.client().post("/v1/users", {"username": "boss", "email": "anna@lab.example", "role": "admin"})
    browser = enter(server)
    who = me(browser, server).json()
    assert who["username"] == "anna" and who["email"] is None and who["role"] == "guest"


def test_links_on_the_command_line(make_server, fake):
    server = make_server(oidc=fake.settings(create_users=False))
    browser = enter(server)
    assert failure(browser) == "no_account" and server.client().get("/v1/users/anna").status == 404
    assert "sub-1" in audit(server, "sign_in.failed")[0]["detail"]

    def run(*arguments):
        return subprocess.run([str(BINARY), "user", *arguments, "--data", str(server.data)], capture_output=True, text=True, timeout=60)

    assert run("add", "anna").returncode == 0
    assert "--issuer" in run("link", "anna", "--sub", "sub-1").stderr
    assert run("link", "anna", "--issuer", fake.issuer, "--sub", "sub-1").returncode == 0
    browser = wait_until(lambda: next((b for b in [enter(server)] if SESSION in b.of(server)), None), "the link")
    assert me(browser, server).json()["username"] == "anna"
    assert run("unlink", "anna").returncode == 0
    assert failure(enter(server)) == "no_account"


def test_an_inactive_user_stays_out(make_server, fake):
    server = make_server(oidc=fake.settings())
    browser = enter(server)
    assert me(browser, server).status == 200
    server.client().request("PATCH", "/v1/users/anna", json_body={"active": False})
    assert me(browser, server).status == 401
    browser = enter(server)
    assert failure(browser) == "inactive" and SESSION not in browser.of(server)
    assert audit(server, "sign_in.failed")[0]["detail"] == "not active"
    server.client().request("PATCH", "/v1/users/anna", json_body={"active": True})
    assert me(enter(server), server).status == 200


def test_only_some_domains_and_only_verified(make_server, fake):
    server = make_server(oidc=fake.settings(email_domains=["Lab.Example", "other.example"]))
    for claims in ({"email": "anna@evil.example"}, {"email_verified": False}, {"email_verified": None}, {"email": None}, {"email": "anna"},
                   {"email": "lab.example"}, {"email": "anna@lab.example@evil.example"}, {"email": "anna@sub.lab.example"}):
        fake.plan(claims=claims)
        assert failure(enter(server)) == "email_not_allowed", claims
    assert len(audit(server, "sign_in.failed")) == 8
    fake.plan(claims={"email": "anna@LAB.example"})
    assert me(enter(server), server).status == 200


def test_names_that_no_account_can_have(make_server, fake):
    server = make_server(oidc=fake.settings())
    for name in ("operator", "a" * 81, " anna", "an\nna", ""):
        fake.plan(claims={"preferred_username": name})
        assert failure(enter(server)) == "no_name", name
    # Without a name, the email's; without that the subject.
    fake.plan(claims={"preferred_username": None})
    assert me(enter(server), server).json()["username"] == "anna@lab.example"
    fake.plan(claims={"preferred_username": None, "email_verified": False, "sub": "sub-9"})
    assert me(enter(server), server).json()["username"] == "sub-9"
    # A name is text, on every page.
    fake.plan(claims={"preferred_username": "<img src=x onerror=alert(1)>", "sub": "sub-10"})
    assert me(enter(server), server).json()["username"] == "<img src=x onerror=alert(1)>"


# ---- a provider that does wrong


@pytest.fixture(scope="module")
def lab(module_server, shared_fake):
    return module_server(oidc=shared_fake.settings()), shared_fake


RIGHT = [
    ("as it is", {}),
    ("by ES256", {"sign": {"alg": "ES256", "key": "ec"}}),
    ("without the name of a key", {"sign": {"kid": None}}),
    ("a list of audiences", {"claims": {"aud": ["lab", "other"], "azp": "lab"}}),
    ("just expired", {"claims": {"exp": "-30"}}),
    ("a clock that is a little ahead", {"claims": {"iat": "30", "nbf": "30"}}),
    ("the issuer beside the code", {"back": {"iss": "SELF"}}),
]
WRONG = [
    ("issuer", {"claims": {"iss": "http://127.0.0.1:1"}}),
    ("no issuer", {"claims": {"iss": None}}),
    ("issuer with a slash", {"claims": {"iss": "SELF/"}}),
    ("audience", {"claims": {"aud": "other"}}),
    ("no audience", {"claims": {"aud": None}}),
    ("audience that is a number", {"claims": {"aud": 7}}),
    ("empty audience", {"claims": {"aud": []}}),
    ("several audiences, no azp", {"claims": {"aud": ["lab", "other"]}}),
    ("azp", {"claims": {"azp": "other"}}),
    ("nonce", {"claims": {"nonce": "another"}}),
    ("no nonce", {"claims": {"nonce": None}}),
    ("expired", {"claims": {"exp": "-90", "iat": "-390"}}),
    ("no exp", {"claims": {"exp": None}}),
    ("exp that is true", {"claims": {"exp": True}}),
    ("no iat", {"claims": {"iat": None}}),
    ("made in the future", {"claims": {"iat": "300"}}),
    ("not valid yet", {"claims": {"nbf": "300"}}),
    ("nbf that is a list", {"claims": {"nbf": []}}),
    ("no subject", {"claims": {"sub": None}}),
    ("empty subject", {"claims": {"sub": ""}}),
    ("subject that is a number", {"claims": {"sub": 1}}),
    ("long subject", {"claims": {"sub": "s" * 256}}),
    ("algorithm none", {"sign": {"alg": "none"}}),
    ("algorithm None", {"sign": {"alg": "none", "header": {"alg": "None"}}}),
    ("HS256 by the public key", {"sign": {"alg": "HS256"}}),
    ("RS512", {"sign": {"alg": "RS512"}}),
    ("PS256", {"sign": {"alg": "PS256"}}),
    ("ES256 said of RSA's key", {"sign": {"alg": "ES256", "key": "rsa"}}),
    ("RS256 said of the curve's key", {"sign": {"alg": "RS256", "key": "ec"}}),
    ("another's key under a known name", {"sign": {"key": "other", "kid": "rsa"}}),
    ("another's key without a name", {"sign": {"key": "other", "kid": None}}),
    ("unknown key", {"sign": {"key": "other", "kid": "other"}}),
    ("key of 1024 bits", {"sign": {"key": "small"}}),
    ("kid that is no text", {"sign": {"header": {"kid": 5}}}),
    ("crit", {"sign": {"header": {"crit": ["exp"]}}}),
    ("a broken signature", {"broken_signature": True}),
    ("no token", {"token_fault": {"access_token": "access", "token_type": "Bearer"}}),
    ("a token of one part", {"id_token": "abc"}),
    ("a token of five parts", {"id_token": "a.b.c.d.e"}),
    ("a token that is no base64", {"id_token": "*.*.*"}),
    ("a large token", {"id_token": "a" * 40000 + ".b.c"}),
    ("a number as token", {"id_token": 12}),
    ("another issuer beside the code", {"back": {"iss": "http://127.0.0.1:1"}}),
    ("no code", {"back": {"code": None}}),
    ("a code that is unknown", {"back": {"code": "made-up"}}),
    ("an error", {"back": {"error": "invalid_scope", "code": None}}),
    ("the code refused", {"token_fault": 400}),
    ("the client refused", {"token_fault": 401}),
    ("userinfo of somebody else", {"claims": {"email": None}, "userinfo": {"sub": "sub-2", "email": "x@lab.example"}, "discovery": {"userinfo_endpoint": "SELF/userinfo"}}),
]
EXPIRED = [("state", {"back": {"state": "another"}}), ("no state", {"back": {"state": None}}), ("empty state", {"back": {"state": ""}})]


def planned(fake, plan):
    text = json.dumps(plan).replace("SELF", fake.issuer)
    fake.plan(**json.loads(text))


@pytest.mark.parametrize("plan", [plan for _, plan in RIGHT], ids=[name for name, _ in RIGHT])
def test_what_is_right_is_believed(lab, plan):
    server, fake = lab
    planned(fake, plan)
    browser = enter(server)
    assert me(browser, server).status == 200, (browser.seen, server.log_text()[-600:])


@pytest.mark.parametrize("plan", [plan for _, plan in WRONG], ids=[name for name, _ in WRONG])
def test_what_is_wrong_is_refused(lab, make_server, plan):
    server, fake = lab
    if "discovery" in plan:  # it is read once
        server = make_server(oidc=fake.settings())
    planned(fake, plan)
    users = server.client().get("/v1/users").json()["total"]
    browser = enter(server)
    assert failure(browser) == "sign_in_refused" and SESSION not in browser.of(server) and ATTEMPT not in browser.of(server)
    assert server.client().get("/v1/users").json()["total"] == users
    assert "hush" not in server.log_text() and "access_token" not in server.log_text()


@pytest.mark.parametrize("plan", [plan for _, plan in EXPIRED], ids=[name for name, _ in EXPIRED])
def test_a_state_that_is_not_this_browsers_is_refused(lab, plan):
    server, fake = lab
    planned(fake, plan)
    asked = fake.seen("/token")
    browser = enter(server)
    assert failure(browser) == "sign_in_expired" and SESSION not in browser.of(server) and fake.seen("/token") == asked


def test_what_a_provider_says_of_an_error_stays_in_the_log(lab):
    server, fake = lab
    planned(fake, {"back": {"error": "<script>x\r\nSet-Cookie: a=b", "error_description": "tell nobody", "code": None}})
    browser = enter(server)
    assert failure(browser) == "sign_in_refused" and "a" not in browser.of(server)
    assert "tell nobody" not in browser.text


def test_unknown_keys_are_looked_for_a_few_times_only(make_server, fake):
    server = make_server(oidc=fake.settings())
    assert me(enter(server), server).status == 200 and fake.seen("/jwks") == 1
    # The provider changes its keys: noticed at once.
    fake.plan(list=["other"], sign={"key": "other"})
    assert me(enter(server), server).status == 200 and fake.seen("/jwks") == 2
    # Made-up names of keys: the provider is not asked each time.
    fake.plan(list=["other"], sign={"key": "rsa", "kid": "made-up"})
    for _ in range(12):
        assert failure(enter(server)) == "sign_in_refused"
    assert fake.seen("/jwks") <= 6
    fake.plan(list=["other"], sign={"key": "other"})
    assert me(enter(server), server).status == 200


@pytest.mark.parametrize("listed", [{"use": "enc"}, {"alg": "RS512"}, {"kty": "oct"}, {"n": "AQAB"}, {"e": "AQ"}, {"key_ops": ["sign"]}, {"n": None}, {"n": "A" * 20000}])
def test_keys_that_are_not_for_this_sign_nothing(make_server, fake, listed):
    server = make_server(oidc=fake.settings())
    fake.plan(list=["rsa"], listed=listed)
    assert failure(enter(server)) == "sign_in_refused"


# ---- a provider that is down, slow or boundless


def is_down(server, within_s=40):
    begun = time.monotonic()
    browser = enter(server)
    assert failure(browser) == "provider_unavailable" and SESSION not in browser.of(server)
    assert time.monotonic() - begun < within_s
    return browser


def test_a_provider_that_is_down(make_server):
    port = free_port()
    server = make_server(oidc={"issuer": "http://127.0.0.1:%d" % port, "client_id": "lab"})
    is_down(server)
    answer = server.client(None).get("/v1/auth/oidc")
    assert answer.status == 503 and answer.json()["code"] == "provider_unavailable" and answer.headers["retry-after"]
    assert server.client().get("/v1/status").status == 200
    assert "127.0.0.1:%d" % port in server.log_text()


def test_a_provider_that_goes_away_and_comes_back(make_server, fake):
    server = make_server(oidc=fake.settings())
    fake.plan(discovery_fault=500)
    is_down(server)
    fake.plan()
    browser = wait_until(lambda: next((b for b in [enter(server)] if SESSION in b.of(server)), None), "the provider's return", 20)
    assert me(browser, server).status == 200
    fake.plan(token_fault=503)
    is_down(server)
    fake.plan()
    assert me(enter(server), server).status == 200


# {} of the token's address is an answer, without a token.
NONE = [(where, fault) for where in ("discovery_fault", "jwks_fault", "token_fault")
        for fault in ("huge", "slow", "<html>", "[]", "{}", 302, 500, 404) if (where, fault) != ("token_fault", "{}")]


@pytest.mark.parametrize("where,fault", NONE, ids=lambda value: str(value))
def test_answers_that_are_none(make_server, shared_fake, where, fault):
    server = make_server(oidc=shared_fake.settings())
    shared_fake.plan(**{where: fault})
    is_down(server, 15 if fault == "slow" else 8)
    assert shared_fake.seen("/elsewhere") == 0
    shared_fake.plan()


@pytest.mark.parametrize("discovery", [{"issuer": "http://127.0.0.1:1"}, {"issuer": "SELF/"}, {"issuer": None}, {"token_endpoint": None},
                                       {"token_endpoint": "http://192.0.2.1/token"}, {"jwks_uri": "file:///etc/passwd"},
                                       {"authorization_endpoint": "javascript:alert(1)"}, {"jwks_uri": "http://127.0.0.1@192.0.2.1/"}])
def test_documents_that_are_another_providers_or_lead_elsewhere(make_server, shared_fake, discovery):
    server = make_server(oidc=shared_fake.settings())
    planned(shared_fake, {"discovery": discovery})
    is_down(server, 8)
    shared_fake.plan()


def test_a_certificate_that_nobody_vouches_for(make_server, tmp_path):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

        def log_message(self, *_):
            pass

    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.socket = context.wrap_socket(provider.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    try:
        server = make_server(oidc={"issuer": "https://localhost:%d" % provider.server_address[1], "client_id": "lab"})
        is_down(server)
        assert asked == [] and "certificate" in server.log_text()
    finally:
        provider.shutdown()
        provider.server_close()


def test_many_at_a_slow_provider_hold_up_nobody_else(make_server, fake):
    server = make_server(oidc=fake.settings())
    assert me(enter(server), server).status == 200
    fake.plan(token_fault="slow")
    started = [Browser(follow=False) for _ in range(20)]
    begun = time.monotonic()
    connections = []
    for browser in started:
        browser.go(server.url + "/v1/auth/oidc")
        state = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.location).query)["state"][0]
        connection = http.client.HTTPConnection(*server.address, timeout=60)
        connection.request("GET", "/v1/auth/oidc/callback?code=x&state=" + state, headers={"Cookie": "%s=%s" % (ATTEMPT, browser.of(server)[ATTEMPT])})
        connections.append(connection)
    for _ in range(5):
        assert server.client().get("/v1/sessions").status == 200
    assert time.monotonic() - begun < 9  # before the first of them was given up
    # Of one address only so many wait; the others hear it at once.
    refused = connections[-1].getresponse()
    assert refused.status == 503 and json.loads(refused.read())["code"] == "provider_unavailable" and time.monotonic() - begun < 9
    # And it stops, whatever it waits for: all of these would take half a minute.
    begun = time.monotonic()
    assert server.stop() == 0 and time.monotonic() - begun < 20
    for connection in connections:
        connection.close()


# ---- settings


def test_without_a_provider_there_is_no_such_way(server):
    for path in ("/v1/auth/oidc", "/v1/auth/oidc/callback?code=1&state=2"):
        answer = server.client(None).get(path)
        assert answer.status == 400 and answer.json()["code"] == "no_provider"
        browser = Browser()
        browser.go(server.url + path)
        assert failure(browser) == "no_provider"
    assert server.client(None).get("/v1/auth/methods").json()["providers"] == []


def test_over_plain_http_from_elsewhere_no_cookie_would_be_kept(make_server, fake):
    server = make_server(oidc=fake.settings(), allowed_hosts=["lab.test"])
    answer = server.client(None).get("/v1/auth/oidc", headers={"Host": "lab.test"})
    assert answer.status == 400 and answer.json()["code"] == "insecure"


def test_the_public_address_is_where_the_provider_sends_back(make_server, fake):
    server = make_server(oidc=fake.settings(), public_url="https://lab.test/", trusted_proxies=["127.0.0.1"])
    answer = server.client(None).get("/v1/auth/oidc", headers={"Host": "lab.test", "X-Forwarded-Proto": "https"})
    assert answer.status == 302
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == ["https://lab.test/v1/auth/oidc/callback"] and asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"] and len(asked["state"][0]) >= 32 and len(asked["nonce"][0]) >= 32 and len(asked["code_challenge"][0]) == 43


def test_the_secret_may_come_from_a_file_or_the_environment(make_server, fake, tmp_path):
    (tmp_path / "secret").write_text("hush\n")
    settings = {k: v for k, v in fake.settings().items() if k != "client_secret"}
    server = make_server(oidc=dict(settings, client_secret_file=str(tmp_path / "secret")))
    assert me(enter(server), server).status == 200
    assert "chmod 600" in server.log_text()
    server = make_server(oidc=dict(settings, client_secret="wrong"), environment={"MYELIN_OIDC_CLIENT_SECRET": "hush"})
    assert me(enter(server), server).status == 200
