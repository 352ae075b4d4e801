"""The description of the native API: the copy in spec/ is what the server says, and what it says holds."""

import json
import re

import pytest

from conftest import ROOT

COPY = ROOT / "spec" / "openapi.json"


@pytest.fixture
def described(server):
    return server.client(None).get("/v1/openapi.json").json()


def test_the_copy_is_what_the_server_says(server):
    """To make it anew: curl -s http://127.0.0.1:52425/v1/openapi.json >spec/openapi.json"""
    assert COPY.read_text() == server.client(None).get("/v1/openapi.json").text


def test_every_route_of_the_specification_is_described(described):
    text = (ROOT / "spec" / "native-api.md").read_text()
    named = re.findall(r"`(?:GET|POST|PUT|PATCH|DELETE)[^`/]*(/v1/[^` ]*)", text)
    named = {re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0]) for path in named}
    there = {re.sub(r"\{[^}]*\}", "{}", path) for path in described["paths"]}
    assert len(named) > 20 and named <= there, named - there


def test_every_operation_has_a_summary_and_unique_id(described):
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) > 30
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_described_routes_ask_for_a_token_and_exist(server, described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            target = re.sub(r"\{[^}]*\}", "x", path)
            answer = server.client(None).request(method.upper(), target)
            if operation.get("security") == []:
                assert answer.status in (200, 400) or operation["x-needs"] == "public", (method, path, answer)  # 400: the body is missing
            else:
                assert answer.status == 401, (method, path, answer)
            assert server.client().request(method.upper(), target, body="{}", headers={"Content-Type": "application/json"}).status != 405


def test_the_reference_page_loads_nothing(server):
    answer = server.client(None).get("/v1/docs")
    assert answer.status == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|src=|href=\"http|@import|url\(", answer.text)
    assert "/v1/sessions/{id}/branch" in answer.text


def test_an_example_request_works_as_written(server, described):
    session = described["paths"]["/v1/sessions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    client = server.client()
    identity = client.post("/v1/sessions", dict(session, name="example")).json()["id"]
    for verb in ("exec", "call"):
        example = described["paths"]["/v1/sessions/{id}/" + verb]["post"]["requestBody"]["content"]["application/json"]["example"]
        answer = client.post("/v1/sessions/%s/%s" % (identity, verb), example)
        assert answer.status == 200, (verb, answer)
    client.request("DELETE", "/v1/sessions/" + identity)
    assert json.dumps(described)
