"""Faults of sessions: endless, greedy, dying. In every case the session says what happened, and the others' answers stay right."""

import os
import pathlib
import signal
import threading
import time
import urllib.parse

import pytest

from conftest import Bystanders, Session, descendants, is_running, wait_until

LIMITS = {"memory_per_session": "1GiB", "pids": 64, "files": 128, "scratch": "64MiB", "work_quota": "64MiB", "queue": 4,
          "stdout_mib": 4}


@pytest.fixture(scope="module")
def limited(module_server):
    return module_server(limits=LIMITS)


@pytest.fixture
def others(limited):
    bystanders = Bystanders(limited)
    yield bystanders
    bystanders.check()  # after every fault, whatever else the test says


@pytest.fixture
def victim(limited, others, request):
    return limited.client().kernel("v-" + request.node.name.replace("[", "-").replace("]", "")[:50])


@pytest.fixture
def python(limited, others):
    session = Session(limited.client(), "python", "p%d" % time.monotonic_ns())
    yield session
    session.delete()


def in_background(function, *arguments, **options):
    box = []
    thread = threading.Thread(target=lambda: box.append(function(*arguments, **options)), daemon=True)
    thread.start()
    return thread, box


def lost(client, answer, *words):
    """The session has ended: it says why, goes on saying so, and starts again when it is asked to."""
    assert answer.status == 400, answer
    message = answer.json()["message"]
    assert message.startswith("KernelLost: "), message
    assert any(word in message.lower() for word in words), message
    for again in (client.post("/api/Create", {"model": "iaf_psc_alpha"}), client.exec("a = 1", "a")):
        assert again.status == 400 and again.json()["message"].startswith("KernelLost: "), again
    assert client.get("/").status == 200
    client.call("ResetKernel")
    assert client.call("Create", "iaf_psc_alpha", 2) == [1, 2]


def test_os_exit(victim):
    lost(victim, victim.exec("import os\nprint('last words', flush=True)\nos._exit(7)"), "7")


def test_a_script_that_resets_starts_a_fresh_kernel(victim):
    assert victim.exec("import os\nos._exit(7)").status == 400
    assert victim.exec("a = 1", "a").status == 400
    assert victim.value("import nest\nnest.ResetKernel()\na = len(nest.Create('iaf_psc_alpha', 2))", "a") == 2
    assert victim.value("a = 1", "a") == 1


@pytest.mark.parametrize("form", ["alias", "large", "multipart", "urlencoded", "query"])
def test_a_script_that_resets_does_so_in_every_form(victim, form):
    assert victim.exec("import os\nos._exit(7)").status == 400
    source = "import nest\nagain = nest.ResetKernel\nagain()\na = len(nest.Create('iaf_psc_alpha', 2))"
    if form == "large":
        source += "\n#" + "x" * (2 << 20)
    if form == "multipart":
        body = "".join("--b\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n" % part for part in (("return", "a"), ("source", source))) + "--b--\r\n"
        answer = victim.request("POST", "/exec", body=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    elif form in ("urlencoded", "query"):
        fields = urllib.parse.urlencode({"source": source, "return": "a"})
        if form == "query":
            answer = victim.get("/exec?" + fields)
        else:
            answer = victim.request("POST", "/exec", body=fields, headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    else:
        answer = victim.exec(source, "a")
    assert answer.status == 200 and answer.json()["data"] == 2, answer


def test_segfault(victim):
    lost(victim, victim.exec("import ctypes\nctypes.string_at(0)"), "segmentation", "sigsegv", "signal 11")


def test_killed_by_itself(victim):
    lost(victim, victim.exec("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"), "signal 9", "sigkill", "killed")


@pytest.mark.parametrize("source", [
    "import numpy as np\nkeep = []\nwhile True:\n  keep.append(np.ones(10_000_000))",
    "a = bytearray(10**10)\na[::4096] = b'x' * len(a[::4096])",
    "n = nest.Create('iaf_psc_alpha', 50_000_000)",
], ids=["numpy", "python", "engine"])
def test_out_of_memory(victim, source):
    answer = victim.exec(source)
    assert answer.status == 400, answer
    message = answer.json()["message"]
    if message.startswith("KernelLost: "):
        lost(victim, answer, "memory")
    else:
        assert "Memory" in message or "bad_alloc" in message or "NESTError" in message, message


def test_fork_bomb(victim, others):
    source = ("import os\ncount = 0\ntry:\n  for _ in range(5000):\n    if os.fork() == 0:\n      import time\n      time.sleep(600)\n"
              "      os._exit(0)\n    count += 1\nexcept OSError:\n  pass")
    answer = victim.exec(source, "count")
    others.check()
    if answer.status == 200:
        assert 0 < answer.json()["data"] < LIMITS["pids"]
    victim.call("ResetKernel")


def test_more_threads_than_pids_allow(victim):
    source = ("import threading, time\nmade = 0\ntry:\n  for _ in range(1000):\n"
              "    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n    made += 1\nexcept RuntimeError:\n  pass")
    assert 0 < victim.value(source, "made") < LIMITS["pids"]
    answer = victim.exec("nest.ResetKernel()\nnest.local_num_threads = 1000\nn = nest.Create('iaf_psc_alpha', 10)\nnest.Simulate(1.0)")
    if answer.status == 400 and answer.json()["message"].startswith("KernelLost: "):
        lost(victim, answer, "exit", "signal", "abort", "thread")


def test_too_many_files(victim):
    assert victim.value("files = []\ntry:\n  while True:\n    files.append(open('/dev/null'))\nexcept OSError as e:\n  n = len(files)", "n") \
        < LIMITS["files"]
    assert victim.value("a = 1", "a") == 1


def test_full_scratch(victim):
    source = ("n = 0\ntry:\n  with open(%r, 'wb') as f:\n    while n < 10_000:\n      f.write(bytes(1 << 20))\n      f.flush()\n      n += 1\n"
              "except OSError as e:\n  pass")
    for path in ("/tmp/full", "full", "/dev/shm/full"):
        assert victim.value(source % path, "n") <= 64, path
    assert victim.exec("import os\nfor p in ('/tmp/full', 'full', '/dev/shm/full'):\n  os.path.exists(p) and os.remove(p)").status == 200
    assert victim.value("open('/tmp/ok', 'w').write('x')\na = open('/tmp/ok').read()", "a") == "x"


def test_work_quota(victim):
    """Writing beyond the quota of ~/work fails, at the latest for the next session; the disk of the host is not filled."""
    source = ("import os\nd = os.path.expanduser('~/work')\nn = 0\ntry:\n  with open(d + '/big', 'wb') as f:\n    for n in range(400):\n"
              "      f.write(bytes(1 << 20))\n      f.flush()\n      os.fsync(f.fileno())\n      import time\n      time.sleep(0.02)\nexcept OSError:\n  pass")
    try:
        answer = victim.exec(source, "n")
        if answer.status == 200:
            assert answer.json()["data"] < 399, "400 MiB could be written below a quota of 64 MiB"
        else:
            assert "quota" in answer.json()["message"].lower(), answer
    finally:
        victim.call("ResetKernel")
        victim.exec("import os\np = os.path.expanduser('~/work') + '/big'\nos.path.exists(p) and os.remove(p)")


def test_endless_output(victim, others):
    thread, box = in_background(victim.exec, "while True: print('x' * 1000)")
    wait_until(lambda: Client_(victim).get("/v1/sessions/%s" % session_of(victim)).json().get("state") == "busy", "a busy session")
    for _ in range(5):
        others.check()
        time.sleep(0.2)
    interrupt_kernel(victim)
    thread.join(120)
    assert box and box[0].status == 400, box


def session_of(client):
    """The native id of the kernel behind a face."""
    name = client.prefix[3:]
    listed = Client_(client).get("/v1/sessions").json()["sessions"]
    return next((s["id"] for s in listed if s["name"] == name), None)


def Client_(client):
    from conftest import Client
    return Client(client.address, client.token)


def interrupt_kernel(client):
    answer = Client_(client).post("/v1/sessions/%s/interrupt" % session_of(client), {})
    assert answer.status in (200, 202), answer


def status_of(client):
    """The status of the kernel behind a face; one that is not there yet has a state of its own."""
    identity = session_of(client)
    return Client_(client).get("/v1/sessions/" + identity).json() if identity else {"state": "none"}


def test_infinite_loop_in_python(victim, others):
    victim.call("ResetKernel")
    victim.call("Create", "iaf_psc_alpha", 7)
    thread, box = in_background(victim.exec, "while True: pass")
    wait_until(lambda: status_of(victim)["state"] == "busy", "the session is busy")
    others.check()
    assert victim.get("/").status == 200
    interrupt_kernel(victim)
    thread.join(120)
    assert box[0].status == 400 and "KernelLost" not in box[0].text, box
    assert victim.get("/api/network_size").json() == 7


def test_infinite_loop_in_the_engine(victim, others):
    victim.call("ResetKernel")
    victim.exec("n = nest.Create('iaf_psc_alpha', 2000)\nnest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 100}, {'weight': 1.0})")
    thread, box = in_background(victim.post, "/api/Simulate", {"t": 1e8})
    seen = wait_until(lambda: (lambda s: s if s["state"] == "busy" and s.get("progress", {}).get("time_ms") else None)(status_of(victim)),
                      "a running simulation with its progress")
    assert seen["progress"]["interruptible"] is True and seen["progress"]["of_ms"] == 1e8
    others.check()
    interrupt_kernel(victim)
    thread.join(120)
    assert box[0].status == 400 and "KernelLost" not in box[0].text, box
    before = victim.get("/api/biological_time").json()
    assert 0 < before < 1e8
    victim.call("Simulate", 1.0)
    assert victim.get("/api/biological_time").json() == pytest.approx(before + 1.0)


def test_a_loop_that_resists_is_killed(victim, others):
    source = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n  try:\n    while True: pass\n  except BaseException: pass"
    thread, box = in_background(victim.exec, source)
    wait_until(lambda: status_of(victim)["state"] == "busy", "the session is busy")
    interrupt_kernel(victim)
    thread.join(180)
    assert box and box[0].status == 400, box
    if not box[0].json()["message"].startswith("Interrupted"):
        lost(victim, box[0], "interrupt", "kill")


def test_deadline(make_server):
    server = make_server(limits={"call_deadline_s": 2})
    others, client = Bystanders(server), server.client().kernel("late")
    client.call("ResetKernel")
    for source in ("while True: pass", "n = nest.Create('iaf_psc_alpha', 1000)\nnest.Simulate(1e9)"):
        answer = client.exec(source)
        assert answer.status == 400 and "deadline" in answer.text.lower(), answer
        others.check()
    client.call("ResetKernel")
    session = Session(server.client(), "python", "slow")
    answer = session.exec("while True: pass")
    assert answer.status in (409, 410, 504) and "deadline" in answer.text.lower(), answer


def test_queue_is_bounded(limited, others):
    session = Session(limited.client(), "python", "q%d" % time.monotonic_ns())
    running = in_background(session.exec, "import time\ntime.sleep(600)")
    wait_until(lambda: session.status().json()["state"] == "busy", "the session is busy")
    waiting = [in_background(session.exec, "a = %d" % i, "a") for i in range(LIMITS["queue"])]
    wait_until(lambda: session.status().json()["queued"] >= LIMITS["queue"], "a full queue")
    answer = session.exec("a = 1", "a")
    assert answer.status == 429 and int(answer.headers["retry-after"]) > 0, answer
    others.check()
    session.interrupt()
    for index, (thread, box) in enumerate(waiting):
        thread.join(120)
        assert box[0].status == 200 and box[0].json()["data"] == index, box
    running[0].join(120)
    session.delete()


def test_deleted_while_running(python):
    thread, box = in_background(python.exec, "while True: pass")
    wait_until(lambda: python.status().json()["state"] == "busy", "the session is busy")
    assert python.delete().status in (200, 202, 204)
    thread.join(120)
    assert box[0].status == 410, box
    answer = python.exec("a = 1", "a")
    assert answer.status == 410 and "deleted" in answer.text


def test_a_client_that_hangs_up(victim, limited):
    """Its call goes on and its effects stay, as with the original; the kernel goes on."""
    victim.call("ResetKernel")
    import json
    body = json.dumps({"source": "import time\ntime.sleep(1)\nnest.Create('iaf_psc_alpha', 3)"}).encode()
    connection = limited.raw(b"POST %s/exec HTTP/1.1\r\nHost: 127.0.0.1\r\nNESTServerAuth: secret\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n\r\n" % (victim.prefix.encode(), len(body)) + body)
    time.sleep(0.3)
    connection.close()
    wait_until(lambda: victim.get("/api/network_size").json() in (0, 3), "an answer")
    assert victim.value("a = 1", "a") == 1


def test_cause_and_output_are_kept_over_a_restart(make_server, data_root):
    server = make_server()
    session = Session(server.client(), "python", "gone")
    assert session.exec("import os\nprint('the last line', flush=True)\nos.write(2, b'from C\\n')\nos._exit(9)").status == 410
    data = server.data
    assert server.stop() == 0
    again = make_server(data=data)
    answer = again.client().post(session.path + "/exec", {"source": "a = 1"})
    assert answer.status == 410, answer
    assert "9" in answer.text and "the last line" in answer.text and "from C" in answer.text


def test_sessions_of_a_restarted_server_say_so(make_server):
    server = make_server()
    client = server.client()
    client.call("ResetKernel")
    client.call("Create", "iaf_psc_alpha", 3)
    session = Session(client, "python", "survivor")
    session.exec("a = 1")
    server.kill()
    again = make_server(data=server.data)
    answer = again.client().post(session.path + "/exec", {"source": "a = 1"})
    assert answer.status == 410 and "server restarted" in answer.text, answer
    answer = again.client().post("/api/Create", {"model": "iaf_psc_alpha"})
    assert answer.status == 400 and answer.json()["message"].startswith("KernelLost: ") and "restarted" in answer.text
    again.client().call("ResetKernel")
    assert again.client().call("Create", "iaf_psc_alpha") == [1]


def test_server_killed_while_50_sessions_run(make_server):
    server = make_server()
    sessions = [Session(server.client(), "python", "busy%d" % i) for i in range(50)]
    for session in sessions:
        in_background(lambda s=session: _ignore(s.exec, "import subprocess, time\nsubprocess.Popen(['sleep', '600'])\nwhile True: pass"))
    wait_until(lambda: all(s.status().json()["state"] == "busy" for s in sessions), "50 busy sessions")
    time.sleep(1)
    children = descendants(server.process.pid)
    assert len(children) >= 50
    server.kill()
    wait_until(lambda: not [p for p in children if is_running(p)], "no orphan is left", 10)


def _ignore(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        pass


def test_zygote_killed(make_server):
    server = make_server()
    others = Bystanders(server)
    if server.client().get("/v1/health").json()["isolation"] == "reduced":
        pytest.skip("without namespaces zygotes can't be told from their sessions")
    zygotes = [pid for pid in descendants(server.process.pid) if _is_zygote(pid)]
    if not zygotes:
        # They are told apart by their command line; a server that runs none here has only cold starts to lose.
        pytest.skip("no zygote is recognisable among the server's processes")
    for pid in zygotes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    others.check()
    fresh = server.client().kernel("after-zygote")
    fresh.call("ResetKernel")
    assert fresh.call("Create", "iaf_psc_alpha", 2) == [1, 2]
    others.check()


def _is_zygote(pid):
    """Sessions are clones and share the command line, but live in a process namespace of their own."""
    try:
        return (b"zygote" in pathlib.Path("/proc/%d/cmdline" % pid).read_bytes()
                and os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/self/ns/pid"))
    except OSError:
        return False


def test_sigterm_with_calls_in_flight(make_server):
    server = make_server()
    quick = Session(server.client(), "python", "quick")
    endless = Session(server.client(), "python", "endless")
    quick_call = in_background(quick.exec, "import time\ntime.sleep(5)\na = 'finished'", "a")
    endless_call = in_background(lambda: _ignore(endless.exec, "while True: pass"))
    wait_until(lambda: quick.status().json()["state"] == endless.status().json()["state"] == "busy", "two busy sessions")
    children = descendants(server.process.pid)
    assert server.stop(timeout=60) == 0
    quick_call[0].join(60)
    answer = quick_call[1][0]
    assert (answer.status == 200 and answer.json()["data"] == "finished") or answer.status == 503, answer
    endless_call[0].join(60)
    assert [one.status for one in endless_call[1] if one is not None] in ([], [503]), endless_call
    wait_until(lambda: not [p for p in children if is_running(p)], "no orphan is left")


def test_one_server_per_data_folder(make_server):
    import subprocess

    from conftest import BINARY

    server = make_server()
    second = subprocess.run([str(BINARY), "serve", "--port", "0", "--data", str(server.data)], capture_output=True, text=True, timeout=60)
    assert second.returncode != 0 and second.stderr
    assert server.client().get("/").status == 200


def test_everything_beside_a_running_simulation(limited, others, victim):
    victim.call("ResetKernel")
    victim.exec("n = nest.Create('iaf_psc_alpha', 2000)\nnest.Connect(n, n, {'rule': 'fixed_indegree', 'indegree': 100}, {'weight': 1.0})")
    thread, box = in_background(victim.post, "/api/Simulate", {"t": 1e8})
    wait_until(lambda: status_of(victim)["state"] == "busy", "the session is busy")
    for _ in range(20):
        assert limited.client().get("/").status == 200
        assert status_of(victim)["state"] == "busy"
    others.check()
    interrupt_kernel(victim)
    thread.join(120)
    assert box[0].status == 400
