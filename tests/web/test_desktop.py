"""NEST Desktop, as this server gives it to a visitor with a token, in headless Chromium."""

from browser import drive

PROJECTS = ["spike activity", "spatial spike activity", "spatial neurons", "spike response", "step current response"]


def test_every_bundled_project_simulates(server):
    results = {r["name"]: r for r in drive("desktop.mjs", server.url, server.token, *PROJECTS, timeout=600)["results"]}
    for result in results.values():
        assert (result["greeting"], result["status"], result["finished"]) == (200, 200, True), result
        assert result["url"] == server.url + "/exec" and result["chip"] == 1, result
        assert sum(result["events"]) > 0, result
        assert server.token not in result["page"]
        # A service worker would keep pages of an older server alive.
        assert result["service_workers"] == 0
    assert '"rng_seed": 1\n' in results["spike activity"]["source"]
    assert results["spike activity"]["events"] == [1271]
    assert results["spatial spike activity"]["positions"] > 0 and results["spatial neurons"]["positions"] > 0


def test_pages_need_no_token_and_hold_none(server):
    client = server.client(token=None)
    for path in ("/app/", "/desktop/", "/desktop/assets/workspaces/nest/config/backends.json"):
        answer = client.get(path)
        assert answer.status == 200 and server.token not in answer.text
    backends = client.get("/desktop/assets/workspaces/nest/config/backends.json").json()
    assert backends["nest"] == {"enabled": True, "url": server.url}
    assert client.get("/", headers={"Accept": "text/html"}).headers["location"].endswith("/app/")


def test_no_file_beside_the_package_is_served(server):
    client = server.client(token=None)
    for path in ("/desktop/../../../../etc/passwd", "/desktop/%2e%2e/%2e%2e/nest/__init__.py", "/desktop//etc/passwd",
                 "/desktop/..%2f__init__.py", "/desktop/%00", "/app/../desktop/../../etc/passwd"):
        answer = client.get(path)
        assert answer.status in (400, 403, 404), (path, answer)
        assert "root:" not in answer.text and "import" not in answer.text
