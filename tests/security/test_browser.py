"""Pages of other sites in a user's browser: they can't call, can't read, can't frame, and a rebound name is refused."""

import json

import pytest

from conftest import Session

FOREIGN = ("http://evil.example", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example", "null", "file://", "http://localhost:1@evil.example",
           "http://evil.example#http://localhost:80", "HTTP://EVIL.EXAMPLE", "http://localhost", "")
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
FOREIGN_HOSTS = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:80", "169.254.169.254", "10.0.0.1", "127.0.0.1@evil.example", "127.0.0.1 evil.example",
                 "0x7f000001.evil.example", "localhost..", "[::ffff:10.0.0.1]")


@pytest.fixture(scope="module")
def server(module_server):
    return module_server()


@pytest.fixture(scope="module")
def open_server(module_server):
    return module_server(token=None, auth="none")


def admits(answer, origin):
    """Whether a browser would let a page of `origin` read this answer."""
    allowed = answer.headers.get("access-control-allow-origin")
    return allowed is not None and allowed in ("*", origin)


@pytest.mark.parametrize("origin", FOREIGN[:-2])
def test_a_foreign_page_reads_nothing(server, origin):
    for method, path, body in (("GET", "/", None), ("GET", "/v1/health", None), ("GET", "/v1/sessions", None), ("POST", "/exec", '{"source":"a=1"}'), ("POST", "/v1/sessions", '{"engine":"python"}')):
        answer = server.client().request(method, path, body=body, headers={"Origin": origin, "Content-Type": "application/json"})
        assert not admits(answer, origin), (path, answer.headers)
        preflight = server.client(token=None).request("OPTIONS", path, headers={"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "nestserverauth,content-type"})
        assert not admits(preflight, origin), (path, preflight.headers)
    # A simple request, which needs no preflight, has no token: browsers send none by themselves.
    answer = server.client(token=None).request("POST", "/exec", body='{"source":"a=1"}', headers={"Origin": origin, "Content-Type": "text/plain"})
    assert answer.status in (401, 403), answer


@pytest.mark.parametrize("origin", FOREIGN[:-2])
def test_without_tokens_a_foreign_page_does_nothing(open_server, origin):
    client = open_server.client(token=None)
    before = len(client.get("/v1/sessions").json()["sessions"])
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        for path, body in (("/exec", '{"source":"a=1"}'), ("/api/ResetKernel", "{}"), ("/v1/sessions", '{"engine":"python"}'), ("/v1/sessions/x/interrupt", "{}")):
            answer = client.request("POST", path, body=body, headers={"Origin": origin, "Content-Type": content_type})
            assert answer.status == 403 and not admits(answer, origin), (path, content_type, answer)
    answer = client.request("DELETE", "/v1/sessions/x", headers={"Origin": origin})
    assert answer.status == 403, answer
    assert len(client.get("/v1/sessions").json()["sessions"]) == before


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_without_tokens_an_embedded_address_does_nothing(open_server, site):
    """An <img>, a <script>, a link: browsers send these without an Origin, but say whose page it was."""
    client = open_server.client(token=None)
    client.call("ResetKernel")
    paths = ("/exec?source=nest.Create('iaf_psc_alpha',7)", "/api/Create?model=iaf_psc_alpha&n=7", "/api/ResetKernel", "/s/other/exec?source=a=1", "/api/v1/function?function=return_params",
             "/v1/sessions", "/v1/runs")
    for mode in ("no-cors", "navigate"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        for path in paths:
            for method in ("GET", "HEAD", "POST"):
                answer = client.request(method, path, headers=headers)
                assert answer.status == 403, (method, path, mode, answer)
    assert client.get("/api/network_size").json() == 0
    # A link to a page opens it; a listed origin, the server's own pages and the address line go on working.
    for path in ("/", "/app/", "/desktop/", "/v1/docs", "/swagger-ui"):
        assert client.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}).status in (200, 404), path
    for headers in ({"Sec-Fetch-Site": site, "Origin": "http://localhost:8000"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        for path in ("/exec?source=a=1", "/v1/sessions"):
            assert client.get(path, headers=dict(headers, **{"Sec-Fetch-Mode": "cors"})).status == 200, (path, headers)
        assert client.post("/exec", {"source": "a=1"}, headers=headers).status == 200, headers


@pytest.mark.parametrize("origin", FOREIGN[:-2])
def test_without_tokens_a_foreign_page_reads_nothing(open_server, origin):
    client = open_server.client(token=None)
    for path in ("/", "/api/network_size", "/exec?source=a=1", "/v1/sessions"):
        answer = client.get(path, headers={"Origin": origin})
        assert answer.status == 403 and not admits(answer, origin), (path, answer)


def test_no_credentials_for_everybody(module_server):
    """A configuration that admits all origins must not also admit their cookies."""
    running = module_server(cors_origins=["*"])
    answer = running.client().get("/", headers={"Origin": "http://evil.example"})
    assert not (answer.headers.get("access-control-allow-origin") == "*" and answer.headers.get("access-control-allow-credentials") == "true"), answer.headers


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_rebound_name_is_refused(server, open_server, host):
    for running in (server, open_server):
        for path in ("/", "/v1/health", "/v1/sessions", "/app/", "/desktop/", "/exec"):
            answer = running.client().get(path, headers={"Host": host})
            assert answer.status in (400, 421), (host, path, answer)


def test_own_names_are_served(server):
    for host in OWN_HOSTS:
        for name in (host, "%s:%d" % (host, server.address[1])):
            assert server.client().get("/v1/health", headers={"Host": name}).status == 200, name


def test_names_are_known_however_they_are_written(make_server):
    for url in ("https://[2001:DB8::1]:8443/sim", "https://Sim.Example:8443"):
        running = make_server(allowed_hosts=["Lab.Example", "B.example:443"], public_url=url)
        own = url.partition("://")[2].partition("/")[0]
        for host in ("lab.example", "Lab.Example", "LAB.EXAMPLE:80", "b.example", own, own.lower()):
            assert running.client().get("/v1/health", headers={"Host": host}).status == 200, host
        for host in ("other.example", "[2001:db8::2]"):
            assert running.client().get("/v1/health", headers={"Host": host}).status in (400, 421), host


@pytest.mark.parametrize("path", ["/app/", "/desktop/"])
def test_pages_can_not_be_framed(server, path):
    answer = server.client(token=None).get(path)
    if answer.status == 404:
        pytest.skip("not installed here")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy or "frame-ancestors 'none'" in policy, policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    if path == "/app/":
        scripts = next((part for part in policy.split(";") if part.strip().startswith("script-src")), "")
        assert "unsafe-inline" not in scripts and "unsafe-eval" not in scripts, policy


def test_answers_are_not_sniffed_and_scripts_output_is_no_page(server):
    session = Session(server.client(), "python", "markup")
    answer = session.exec("a = '<script>alert(1)</script>'\nprint(a)", "a")
    assert answer.headers["content-type"].startswith("application/json") and answer.headers.get("x-content-type-options") == "nosniff", answer.headers
    output = server.client().get(session.path + "/output")
    assert output.headers["content-type"].startswith("text/plain") and output.headers.get("x-content-type-options") == "nosniff", output.headers
    wrong = server.client().get("/v1/%3Cscript%3Ealert(1)%3C/script%3E")
    assert wrong.status == 404 and "html" not in wrong.headers["content-type"]
    session.delete()


def test_a_foreign_page_opens_no_websocket(server, open_server):
    session = Session(open_server.client(token=None), "python", "socket")
    for running, token in ((server, server.token), (open_server, None)):
        for path in (session.path + "/stream", session.path + "/loop"):
            for origin in ("http://evil.example", "null"):
                headers = {"Origin": origin, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
                answer = running.client(token=None).request("GET", path, headers=headers)
                assert answer.status in (401, 403, 404, 426), (path, origin, answer)
    session.delete()


def test_no_cookie_is_ever_set(server):
    for path in ("/", "/v1/health", "/v1/sessions", "/app/", "/desktop/"):
        assert "set-cookie" not in server.client().get(path).headers


def test_json_is_what_it_says(server):
    for path in ("/v1/health", "/v1/sessions"):
        assert json.loads(server.client().get(path).body)
