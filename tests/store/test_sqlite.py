"""The embedded database in trouble: locked, read-only, full, killed while it is brought to its newest shape."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time

import pytest
from conftest import BINARY, wait_until

pytestmark = pytest.mark.skipif(os.environ.get("MYELIN_TEST_STORE") == "postgres", reason="of files")


def test_locked_for_too_long_is_503_and_then_goes_on(make_server):
    server = make_server()
    client = server.client()
    token = client.post("/v1/tokens", {"name": "mine"}).json()["token"]
    other = sqlite3.connect(server.data / "myelin.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        answer = client.post("/v1/groups", {"name": "late"})
        assert answer.status == 503 and answer.headers["retry-after"] and answer.json()["code"] == "unavailable", answer
        assert server.client(token).get("/v1/me").status == 200  # readers are not in its way
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert client.post("/v1/groups", {"name": "late"}).status == 201


def test_read_only(tmp_path):
    command = [str(BINARY), "user", "list", "--data"]
    data = tmp_path / "data"
    assert subprocess.run([*command, str(data)], capture_output=True).returncode == 0
    with contextlib.closing(sqlite3.connect(data / "myelin.db")) as database:
        database.execute("PRAGMA journal_mode=DELETE")  # so that no other file is needed
    if os.geteuid() == 0:  # root writes everywhere
        prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        path = tmp_path
        while path != path.parent and path.stat().st_uid == 0:
            path.chmod(path.stat().st_mode | 0o055)
            path = path.parent
            if str(path) == "/tmp":
                break
    else:
        prefix = []
    (data / "myelin.db").chmod(0o444)
    data.chmod(0o555)
    try:
        done = subprocess.run([*prefix, *command, str(data)], capture_output=True, text=True)
        assert done.returncode == 1 and ("not writable" in done.stderr or "cannot be" in done.stderr), done
        assert str(data) in done.stderr
    finally:
        data.chmod(0o755)


def test_a_full_disk_is_507_and_then_goes_on(make_server, data_root):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    data = data_root / "full"
    data.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", str(data)], capture_output=True).returncode:
        pytest.skip("this host does not let root mount")
    try:
        server = make_server(data=data)
        client = server.client()
        assert client.post("/v1/groups", {"name": "before"}).status == 201
        with contextlib.suppress(OSError), open(data / "ballast", "wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
        statuses = set()

        def full():
            answer = client.post("/v1/groups", {"name": "g" * 50 + str(time.monotonic_ns())})
            statuses.add(answer.status)
            return answer if answer.status != 201 else None

        answer = wait_until(full, "the full disk", 60)
        assert answer.status == 507 and answer.json()["code"] == "insufficient_storage", answer
        assert statuses <= {201, 507}
        assert client.get("/v1/groups").status == 200
        (data / "ballast").unlink()
        assert client.post("/v1/groups", {"name": "after"}).status == 201
        names = {group["name"] for group in client.get("/v1/groups").json()["groups"]}
        assert {"before", "after"} <= names
        server.stop()
    finally:
        subprocess.run(["umount", "-l", str(data)])


def test_killed_during_migration(tmp_path):
    shape = "SELECT name, sql FROM sqlite_master ORDER BY 1"

    def look(data):
        with contextlib.closing(sqlite3.connect(data / "myelin.db")) as database:
            return database.execute(shape).fetchall(), database.execute("SELECT version FROM schema_version").fetchall()

    command = [str(BINARY), "user", "list", "--data"]
    begun = time.monotonic()
    assert subprocess.run([*command, str(tmp_path / "whole")], capture_output=True).returncode == 0
    took = time.monotonic() - begun
    wanted = look(tmp_path / "whole")
    for moment in range(12):
        data = tmp_path / str(moment)
        process = subprocess.Popen([*command, str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took * moment / 10)
        process.kill()
        process.wait()
        again = subprocess.run([*command, str(data)], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert look(data) == wanted
        shutil.rmtree(data)
