"""What the rows need: the servers, once each, and the care that one that fails does not end the run."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import time

from .processes import Unavailable
from .targets import PATIENCE_S, ROOT, TOKEN, InProcess, MinimalServer, Myelin, Peer


class Bench:
    def __init__(self, options, stack, folder, table):
        self.options, self.folder, self.table = options, folder, table
        self.quick, self.stack, self.minimal = options.quick, stack, None
        self.build = pathlib.Path(options.build).resolve()
        self.inside = self.start(stack, lambda: InProcess(folder))
        self.binary = pathlib.Path(os.environ.get("MYELIN_BINARY", self.build / "myelin")).resolve()
        self.ours = self.start(stack, lambda: Myelin(self.binary, folder))
        self.peers = [self.start(stack, lambda: Peer("NEST Server 3.10", ".venv-peer", folder)),
                      self.start(stack, lambda: Peer("NEST Server 3.0.0b9", ".venv-peer3", folder))]
        if not self.ours:
            raise Unavailable("without Myelin there is nothing to measure")
        self.client = self.compiled_client()

    def start(self, stack, make):
        begin = time.monotonic()
        try:
            made = make()
        except (Unavailable, OSError) as error:
            print("# not there: %s" % error, flush=True)
            return None
        stack.callback(made.close)
        print("# started %s in %.1f s" % (getattr(made, "title", "") or "the in-process Python", time.monotonic() - begin), flush=True)
        return made

    @contextlib.contextmanager
    def another(self, name, settings=""):
        """A server of this project for one row, fresh and with nobody else's sessions."""
        server = Myelin(self.binary, self.folder, name, settings)
        try:
            yield server
        finally:
            server.close()

    def compiled_client(self):
        made = self.build / "bench-client"
        try:
            made.parent.mkdir(exist_ok=True)
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(made), str(ROOT / "bench" / "client.c")], check=True,
                           capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print("# no compiled client: %s" % (getattr(error, "stderr", "") or error), flush=True)
            return None
        return made

    def n(self, full, quick):
        return quick if self.quick else full

    def guarded(self, target, measure):
        """measure(target); None where there is no target, or where it can't."""
        if target is None:
            return None
        try:
            return measure(target)
        except (Unavailable, OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.table.note("%s: %s" % (getattr(target, "title", "") or "in-process", error))
            return None

    def compiled_us(self, path, content, count, pause_us=0):
        body = b"" if content is None else json.dumps(content).encode()
        head = "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: %s\r\n" % ("GET" if content is None else "POST", path, TOKEN)
        if content is not None:
            head += "Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        host, port = self.ours.address
        done = subprocess.run([str(self.client), host, str(port), str(count), str(pause_us)], input=head.encode() + b"\r\n" + body,
                              capture_output=True, timeout=PATIENCE_S)
        if done.returncode:
            raise Unavailable(done.stderr.decode().strip())
        median, least, p, status, _ = done.stdout.decode().split()
        if status != "200":
            raise Unavailable("the compiled client got a %s" % status)
        return float(median), float(least), float(p)

    def beast(self):
        """The minimal server, built."""
        made = self.build / "beast_min"
        if (self.build / "build.ninja").exists() and shutil.which("ninja"):
            done = subprocess.run(["ninja", "-C", str(self.build), "beast_min"], capture_output=True, text=True)
        else:
            made = self.folder / "beast_min"
            done = subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O3", "-DNDEBUG", "-o", str(made),
                                   str(ROOT / "bench" / "beast_min.cpp"), "-pthread"], capture_output=True, text=True)
        if done.returncode:
            raise Unavailable("beast_min could not be built: " + (done.stderr or done.stdout).strip()[-200:])
        return made

    def minimal_server(self):
        """The minimal server, started once."""
        if not self.minimal:
            self.minimal = MinimalServer(self.beast(), self.folder)
            self.stack.callback(self.minimal.close)
        return self.minimal
