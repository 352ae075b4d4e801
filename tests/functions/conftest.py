"""A server of these tests' own, with a folder of functions that the tests fill."""

import itertools
import os
import textwrap

import pytest


_names = itertools.count()


class Folder:
    """The operator's functions."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def remove(self, name):
        (self.path / name).unlink()


@pytest.fixture(scope="module")
def functions_server(module_server):
    return module_server(functions={"deadline_s": 60, "sweep_points": 500})


@pytest.fixture
def folder(functions_server):
    return Folder(functions_server.data / "functions")


@pytest.fixture
def client(functions_server):
    return functions_server.client()


@pytest.fixture
def user(functions_server):
    """A maker of clients with a token of their own."""

    def make():
        name = "u%d-%d" % (os.getpid(), next(_names))
        answer = functions_server.client().post("/v1/tokens", {"name": name})
        assert answer.status == 201, answer
        return functions_server.client(answer.json()["token"])

    return make


def call(client, name, **parameters):
    return client.post("/v1/functions/" + name, {"parameters": parameters})


def value(client, name, **parameters):
    answer = call(client, name, **parameters)
    assert answer.status == 200, answer
    return answer.json()["data"]
