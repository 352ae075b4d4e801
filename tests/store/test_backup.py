"""`myelin backup` of a running server and `myelin restore`, from either kind of database to either; damaged, killed, and in the way."""

import json
import os
import signal
import subprocess
import threading
import time
import uuid

import pytest
from conftest import BINARY, Session, wait_until

KINDS = ("sqlite", "postgres")


def myelin(*words, database=None, **more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MYELIN_")}
    if database:
        environment["MYELIN_DATABASE"] = database
    return subprocess.run([str(BINARY), *map(str, words)], env=environment, capture_output=True, text=True, timeout=120, **more)


@pytest.fixture
def new_database(request):
    """Of that kind: an address, or None for a file."""

    def make(kind):
        if kind == "sqlite":
            return None
        return request.getfixturevalue("postgres").database("b" + uuid.uuid4().hex[:12])

    return make


def start(make_server, database, **more):
    return make_server(environment={"MYELIN_DATABASE": database} if database else None, **more)


def fill(server):
    """Something of every kind; what must be there again."""
    client = server.client()
    user = client.post("/v1/users", {"username": "lea", "role": "member"}).json()
    token = client.post("/v1/tokens", {"name": "mine"}).json()["token"]
    session = Session(client, "python")
    answer = client.post(session.path + "/exec", {"source": "v = list(range(50))\nprint('\\x00 kept')", "return": "v", "keep": True})
    assert answer.status == 200, answer
    assert session.exec("import os\nos.makedirs(os.path.expanduser('~/work') + '/deep', exist_ok=True)\n"
                        "open(os.path.expanduser('~/work') + '/deep/a\\nb \\\\ c', 'w').write('data')\n"
                        "os.symlink('/etc/passwd', os.path.expanduser('~/work') + '/link')").status == 200
    function = server.data / "functions"
    function.mkdir(exist_ok=True)
    (function / "twice.py").write_text("def twice(x: int) -> int:\n    return 2 * x\n")
    return {"user": user["id"], "token": token, "run": answer.headers["myelin-run"], "operator": server.token}


def check(server, had):
    client = server.client()
    assert client.get("/v1/users/" + had["user"]).json()["username"] == "lea"
    assert server.client(had["token"]).get("/v1/me").status == 200
    assert client.get("/v1/runs/%s/result" % had["run"]).json()["data"] == list(range(50))
    session = Session(client, "python")
    told = session.value("import os\np = os.path.expanduser('~/work') + '/'\nt = [open(p + 'deep/a\\nb \\\\ c').read(), os.readlink(p + 'link')]", "t")
    assert told == ["data", "/etc/passwd"]
    assert (server.data / "functions" / "twice.py").read_text().startswith("def twice")
    # Numbers and orders go on behind those that came.
    assert client.post("/v1/users", {"username": "new", "role": "member"}).status == 201
    kept = client.post(session.path + "/exec", {"source": "w = 1", "return": "w", "keep": True})
    assert kept.status == 200 and client.get("/v1/runs").json()["runs"][0]["id"] == kept.headers["myelin-run"]


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_backup_and_restore(make_server, new_database, tmp_path, source, target):
    database = new_database(source)
    server = start(make_server, database)
    had = fill(server)
    backup = tmp_path / "backup"
    done = myelin("backup", backup, "--data", server.data, database=database)
    assert done.returncode == 0, done
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=backup, capture_output=True, text=True)
    assert checked.returncode == 0, checked
    about = json.loads((backup / "backup.json").read_text())
    assert about["database"] == ("postgresql" if source == "postgres" else "sqlite") and about["files"] > 3
    assert (backup.stat().st_mode & 0o777) == 0o700
    server.stop()
    data, into = server.data.parent / ("restored-" + uuid.uuid4().hex[:8]), new_database(target)
    done = myelin("restore", backup, "--data", data, database=into)
    assert done.returncode == 0, done
    assert not (data / ".restoring").exists() and (data / "token").exists() == (backup / "data" / "token").exists()
    check(start(make_server, into, data=data), had)
    done = myelin("restore", backup, "--data", data, database=into)
    assert done.returncode == 1 and ("not empty" in done.stderr or "a server uses" in done.stderr), done


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_server_works(make_server, new_database, tmp_path, kind):
    """Runs come and go during the copying: every run of the backup has its files."""
    database = new_database(kind)
    server = start(make_server, database)
    client = server.client()
    session = Session(client, "python")
    stop, faults = threading.Event(), []

    def work():
        kept = []
        while not stop.is_set():
            answer = client.post(session.path + "/exec", {"source": "import numpy\nv = numpy.zeros(20000)", "return": "v", "keep": True})
            if answer.status != 200:
                faults.append(answer)
                return
            kept.append(answer.headers["myelin-run"])
            if len(kept) > 15 and client.request("DELETE", "/v1/runs/" + kept.pop(0)).status >= 300:
                faults.append("a run could not be deleted")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: faults or len(client.get("/v1/runs").json()["runs"]) > 15, "runs")
        backups = [tmp_path / str(i) for i in range(3)]
        for backup in backups:
            done = myelin("backup", backup, "--data", server.data, database=database)
            assert done.returncode == 0, done
    finally:
        stop.set()
        worker.join(60)
    assert not faults, faults
    server.stop()
    for backup in backups:
        data = server.data.parent / ("again-" + uuid.uuid4().hex[:8])
        assert myelin("restore", backup, "--data", data).returncode == 0
        again = make_server(data=data)
        runs = again.client().get("/v1/runs?limit=500").json()["runs"]
        assert runs
        for run in runs:
            if run["state"] == "done":
                assert again.client().get("/v1/runs/%s/result" % run["id"]).status == 200
        again.stop()


def a_backup(make_server, tmp_path):
    server = make_server()
    had = fill(server)
    backup = tmp_path / "backup"
    assert myelin("backup", backup, "--data", server.data).returncode == 0
    return server, had, backup


def test_refusals(make_server, tmp_path):
    server, _, backup = a_backup(make_server, tmp_path)
    for words, why in ((("backup", backup, "--data", server.data), "exists already"),
                       (("backup", server.data / "in", "--data", server.data), "inside"),
                       (("backup", tmp_path / "x", "--data", tmp_path / "none"), "no data"),
                       (("restore", tmp_path, "--data", tmp_path / "y"), "no backup"),
                       (("restore", backup, "--data", server.data), "server uses"), (("restore", backup, "--data", backup), "not empty")):
        done = myelin(*words)
        assert done.returncode == 1 and why in done.stderr, (words, done)
    assert server.client().get("/v1/health").status == 200


@pytest.mark.parametrize("fault", ["changed", "missing", "more", "database", "list"])
def test_a_damaged_backup_is_refused_and_nothing_is_left(make_server, tmp_path, fault):
    _, _, backup = a_backup(make_server, tmp_path)
    file = backup / "data" / "functions" / "twice.py"
    if fault == "changed":
        file.write_text(file.read_text().replace("2", "3"))
    elif fault == "missing":
        file.unlink()
    elif fault == "more":
        (backup / "data" / "functions" / "evil.py").write_text("pass\n")
    elif fault == "database":
        with open(backup / "myelin.db", "r+b") as out:
            out.seek(5000)
            out.write(b"x")
    else:
        with open(backup / "SHA256SUMS", "a") as out:
            out.write("0" * 64 + "  data/x\n")
    data = tmp_path / "data"
    done = myelin("restore", backup, "--data", data)
    assert done.returncode == 1 and "damaged" in done.stderr, done
    assert not data.exists() or {p.name for p in data.iterdir()} <= {"lock"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_that_is_killed_is_begun_anew(make_server, new_database, tmp_path, kind):
    server, had, backup = a_backup(make_server, tmp_path)
    server.stop()
    data, database = server.data.parent / ("killed-" + uuid.uuid4().hex[:8]), new_database(kind)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MYELIN_")}
    if database:
        environment["MYELIN_DATABASE"] = database
    for moment in range(10):
        process = subprocess.Popen([str(BINARY), "restore", str(backup), "--data", str(data)], env=environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(0.004 * moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (data / ".restoring").exists():
            done = myelin("serve", "--port", "0", "--data", data, database=database)
            assert done.returncode == 1 and "did not come to its end" in done.stderr, done
        elif data.exists() and (data / "functions").exists():
            break  # it was faster
    if not (data / "functions").exists() or (data / ".restoring").exists():
        done = myelin("restore", backup, "--data", data, database=database)
        assert done.returncode == 0, done
    check(start(make_server, database, data=data), had)


def test_no_room_for_a_backup(make_server, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    server = make_server()
    fill(server)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("this host does not let root mount")
    try:
        done = myelin("backup", small / "backup", "--data", server.data)
        assert done.returncode == 1 and ("full" in done.stderr or "No space" in done.stderr), done
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)])
