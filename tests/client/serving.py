"""`served(*features)` is the one place that says which server a client's test runs against: the real one where it has the features, else
the contract's stand-in. MYELIN_CLIENT_TESTS=real makes it the real one for all, =contract the stand-in."""

import os
import shutil
import tempfile

import pytest

import contract_server

# What the real server has. A feature that is added here is tested on it.
REAL = {"exec", "sessions", "interrupt", "output", "socket", "nest", "branch", "checkpoints", "tokens", "engines",
        "call", "functions", "jobs", "runs", "stream", "loop", "files"}
STAND_IN_LACKS = {"nest", "functions"}


class Served:
    def __init__(self, url, token, contract=None, real=None):
        self.url, self.token, self.contract, self.real = url, token, contract, real

    def client(self, **options):
        from myelin import Client
        return Client(self.url, self.token, **options)


@pytest.fixture
def served(request):
    opened = []

    def serve(*features):
        choice = os.environ.get("MYELIN_CLIENT_TESTS")
        if choice == "real" or (choice != "contract" and set(features) <= REAL):
            real = request.getfixturevalue("server")
            return Served(real.url, real.token, real=real)
        if STAND_IN_LACKS & set(features):
            pytest.skip("neither server has all of this yet: %s" % ", ".join(sorted(features)))
        opened.append(contract_server.ContractServer())
        return Served(opened[-1].url, "secret", contract=opened[-1])

    yield serve
    for contract in opened:
        contract.close()


@pytest.fixture
def contract():
    """The stand-in itself, for faults and for what a client sends."""
    running = contract_server.ContractServer()
    yield Served(running.url, "secret", contract=running)
    running.close()


@pytest.fixture
def contract_socket():
    folder = tempfile.mkdtemp(prefix="myelin-")
    running = contract_server.ContractServer(unix=os.path.join(folder, "socket"))
    yield running
    running.close()
    shutil.rmtree(folder)
