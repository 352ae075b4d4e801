"""The real NEST Servers, from their packages: 3.10 in .venv-peer, the pre-release of the next in .venv-peer3."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Peer:
    """A running `nest-server start`, in a process group of its own."""

    def __init__(self, environment, folder, directory=".venv-peer", patience_s=120):
        home = pathlib.Path(os.environ.get("MYELIN_" + directory.strip(".").replace("-", "_").upper(), ROOT / directory))
        command = home / "bin" / "nest-server"
        if not command.exists():
            pytest.skip("%s is not installed: `make test` does it" % home)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = ("127.0.0.1", port)
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        variables = {k: v for k, v in os.environ.items() if not k.startswith("NEST_SERVER_")}
        variables.update(environment, PATH="%s:%s" % (home / "bin", variables.get("PATH", "/usr/bin:/bin")),
                         NEST_SERVER_LOGFILE=str(folder / "peer.log"), NEST_SERVER_PIDFILE=str(folder / "peer.pid"))
        with open(folder / "peer.out", "wb") as out:
            self.process = subprocess.Popen([str(command), "start", "-p", str(port)], env=variables, cwd=folder, stdout=out,
                                            stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                connection = http.client.HTTPConnection(*self.address, timeout=10)
                connection.request("GET", "/", headers={"NESTServerAuth": environment.get("NEST_SERVER_ACCESS_TOKEN", "")})
                connection.getresponse().read()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    pytest.fail("nest-server did not start:\n" + (folder / "peer.out").read_text()[-2000:])
                time.sleep(0.1)
            finally:
                connection.close()

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
