"""The state on PostgreSQL: the accounts' and runs' tests once more, and what a database of its own can do to a server."""

import os
import subprocess
import sys
import threading
import time
import uuid

import pytest
from conftest import BINARY, ROOT, Session, add_user, wait_until

PASSWORD = "correct horse battery"


@pytest.mark.parametrize("path", ["tests/accounts", "tests/sessions/test_jobs.py"])
def test_the_same_tests(postgres, path, tmp_path):
    del postgres  # skips where there is none; the inner run starts its own
    environment = dict(os.environ, MYELIN_TEST_STORE="postgres")
    log = tmp_path / "log"
    with open(log, "w") as out:
        done = subprocess.run([sys.executable, "-m", "pytest", path, "-q", "-o", "faulthandler_timeout=120"], cwd=ROOT, env=environment,
                              stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=900)
    assert done.returncode == 0, log.read_text()[-4000:]


@pytest.fixture
def database(postgres):
    return "t" + uuid.uuid4().hex[:12]


@pytest.fixture
def server(make_server, postgres, database):
    return make_server(environment={"MYELIN_DATABASE": postgres.database(database)}, admin_password=PASSWORD)


def test_nothing_shows_the_password_and_no_file_is_made(server):
    assert server.client().post("/v1/tokens", {"name": "x"}).status == 201
    assert "never-shown" not in server.log_text() and "never-shown" not in "\n".join(server.printed_lines())
    assert "database: postgresql://postgres@" in server.log_text()
    assert not list(server.data.glob("myelin.db*"))
    for pid in server.processes():
        with open("/proc/%d/cmdline" % pid, "rb") as said:
            assert b"never-shown" not in said.read()


def serve(data, url, *more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MYELIN_")}
    return subprocess.run([str(BINARY), "serve", "--port", "0", "--data", str(data), *more], env=dict(environment, MYELIN_DATABASE=url),
                          capture_output=True, text=True, timeout=60)


def test_a_second_server_on_the_database_is_refused(server, postgres, database, tmp_path):
    done = serve(tmp_path / "other", postgres.url(database))
    assert done.returncode == 1 and "another server uses it" in done.stderr, done
    assert "never-shown" not in done.stderr


def test_a_server_without_its_database_says_so(postgres, tmp_path):
    for url, why in ((postgres.url("nowhere"), "does not exist"), ("postgresql://u:never-shown@127.0.0.1:1/x", "refused"),
                     ("postgresql://u:never-shown@[/x", "form"), ("sqlite:///x", "must be")):
        done = serve(tmp_path / "data", url)
        assert done.returncode == 1 and why in done.stderr and "never-shown" not in done.stderr, done


def test_a_database_of_another_program_is_refused_and_left(postgres, database, tmp_path):
    url = postgres.database(database)
    postgres.psql("CREATE TABLE holidays (day date)", database)
    done = serve(tmp_path / "data", url)
    assert done.returncode == 1 and "another program" in done.stderr, done
    assert postgres.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", database) == "1"


def test_a_revocation_by_the_command_line_is_heard(server, postgres, database):
    environment = {k: v for k, v in server.environment.items()}
    run = lambda *words: subprocess.run([str(BINARY), *words, "--data", str(server.data)], env=environment, capture_output=True, text=True)  # noqa: E731
    token = run("token", "add", "cleo").stdout.strip()
    client = server.client(token)
    wait_until(lambda: client.get("/v1/me").status == 200, "the new token", 10)
    assert run("token", "revoke", "cleo").returncode == 0
    wait_until(lambda: client.get("/v1/me").status == 401, "the revocation", 10)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_restarts_under_load(server, postgres, how):
    """Whatever was acknowledged is there afterwards; meanwhile 503 with Retry-After, and nothing else; then all goes on by itself."""
    operator = server.client()
    session = Session(operator, "python")
    user = operator.post("/v1/users", {"username": "lea", "role": "member"}).json()
    token = server.client(operator.post("/v1/tokens", {"name": "mine"}).json()["token"])
    stop, acknowledged, runs, odd, refused = threading.Event(), [], [], [], []

    def groups(number):
        count = 0
        while not stop.is_set():
            count += 1
            name = "g%d-%d" % (number, count)
            answer = operator.post("/v1/groups", {"name": name})
            if answer.status == 201:
                acknowledged.append(name)
            elif answer.status == 503:
                refused.append(answer.headers.get("retry-after"))
                time.sleep(0.05)
            else:
                odd.append(answer)

    def keeps():
        while not stop.is_set():
            answer = operator.post(session.path + "/exec", {"source": "v = 7", "return": "v", "keep": True})
            if answer.status == 200 and "myelin-run" in answer.headers:
                runs.append(answer.headers["myelin-run"])
            elif answer.status == 503:
                refused.append(answer.headers.get("retry-after"))
                time.sleep(0.05)
            else:
                odd.append(answer)

    def reads():
        while not stop.is_set():
            answer = token.get("/v1/me")
            if answer.status == 503:
                refused.append(answer.headers.get("retry-after"))
            elif answer.status != 200:
                odd.append(answer)
            time.sleep(0.02)

    threads = [threading.Thread(target=groups, args=(0,)), threading.Thread(target=groups, args=(1,)), threading.Thread(target=keeps),
               threading.Thread(target=reads)]
    for thread in threads:
        thread.start()
    try:
        for away_s in (0, 7):  # seven: longer than accounts are believed without being read
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 20, "work before", 60)
            assert postgres.tell(how).returncode == 0
            time.sleep(away_s)
            assert postgres.tell("run").returncode == 0
            before, kept = len(acknowledged), len(runs)
            wait_until(lambda: len(acknowledged) > before + 20 and len(runs) > kept + 1, "work after", 60)
    finally:
        if postgres.tell("run").returncode:
            pass
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not odd, odd[:5]
    assert refused and all(refused), "no request saw the restart, or one was not told when to come again"
    there = {group["name"] for group in operator.get("/v1/groups").json()["groups"]}
    assert set(acknowledged) <= there, set(acknowledged) - there
    for run in runs:
        answer = operator.get("/v1/runs/%s/result" % run)
        assert answer.status == 200 and answer.json()["data"] == 7, answer
    assert operator.get("/v1/users/" + user["id"]).status == 200
    states = {one["state"] for one in operator.get("/v1/runs?limit=500").json()["runs"]}
    assert states <= {"done", "failed", "queued", "running"}, states
    assert "never-shown" not in server.log_text()


def test_a_deactivation_while_postgres_is_away_is_refused_or_in_force(server, postgres):
    """Never acknowledged and forgotten: 503 leaves the user as they were, 200 ends their tokens at the very next request."""
    operator = server.client()
    user = add_user(server, "mia", password=PASSWORD)
    signed_in = server.client(None).post("/v1/auth/sign-in", {"username": "mia", "password": PASSWORD}).json()
    mia = server.client(signed_in["access_token"])
    session = Session(mia, "python")
    assert session.value("v = 1", "v") == 1
    deactivate = lambda: operator.request("PATCH", "/v1/users/" + user["id"], json_body={"active": False})  # noqa: E731
    assert postgres.tell("stop").returncode == 0
    try:
        answer = deactivate()
        assert answer.status == 503 and answer.headers.get("retry-after"), answer
    finally:
        assert postgres.tell("run").returncode == 0
    wait_until(lambda: operator.get("/v1/users/" + user["id"]).status == 200, "the database", 60)
    assert operator.get("/v1/users/" + user["id"]).json()["active"] is True
    wait_until(lambda: mia.get("/v1/me").status == 200, "the user", 30)
    assert session.value("w = v + 1", "w") == 2
    assert deactivate().status == 200
    assert mia.get("/v1/me").status == 401 and mia.get(session.path).status == 401
    wait_until(lambda: operator.get(session.path).json()["state"] == "ended", "the end of the session", 5)


def test_killed_during_migration(postgres, tmp_path):
    """At any moment of the first start: the next one goes on, and the tables are those of an undisturbed start."""
    shape = ("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2")
    whole = "m" + uuid.uuid4().hex[:12]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MYELIN_")}

    def user_list(name):
        return [str(BINARY), "user", "list", "--data", str(tmp_path)], dict(environment, MYELIN_DATABASE=postgres.database(name))

    command, around = user_list(whole)
    begun = time.monotonic()
    assert subprocess.run(command, env=around, capture_output=True).returncode == 0
    took = time.monotonic() - begun
    wanted = postgres.psql(shape, whole)
    assert "sessions|seq|bigint" in wanted
    for moment in range(12):
        name = "m" + uuid.uuid4().hex[:12]
        command, around = user_list(name)
        process = subprocess.Popen(command, env=around, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took * moment / 10)
        process.kill()
        process.wait()
        again = subprocess.run(command, env=around, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert postgres.psql(shape, name) == wanted


