"""What a script tries against its sandbox. Each attempt is made for real, from a session of another user than the victim's."""

import json
import os
import pathlib
import subprocess
import time

import pytest

from conftest import BINARY, Client, Session, descendants

SECRET = "the-operator's-secret-7f3a"


@pytest.fixture(scope="module")
def server(module_server):
    running = module_server(token="operator-" + "k" * 40, allowed_hosts=["example.test"])
    isolation = running.client().get("/v1/health").json().get("isolation", "")
    if isolation == "reduced":
        pytest.skip("this host gives no namespaces: isolation is %r, and says so" % isolation)
    return running


def add_token(server, name):
    out = subprocess.run([str(BINARY), "token", "add", name, "--data", str(server.data)], capture_output=True, text=True, timeout=60,
                         check=True).stdout
    return next(word for word in out.split() if len(word) >= 20 and "/" not in word).rpartition("=")[2]


@pytest.fixture(scope="module")
def anna(server):
    return server.client(token=add_token(server, "anna"))


@pytest.fixture(scope="module")
def bob(server):
    return server.client(token=add_token(server, "bob"))


@pytest.fixture
def script(bob):
    """Runs a script as bob; returns what it left in `a`."""

    def run(source):
        return bob.value(source, "a")

    yield run
    assert bob.value("a = 1", "a") == 1


def test_two_tokens_have_their_own_kernels(anna, bob):
    for client in (anna, bob):
        client.call("ResetKernel")
    anna.call("Create", "iaf_psc_alpha", 3)
    bob.call("Create", "iaf_psc_alpha", 5)
    assert anna.get("/api/network_size").json() == 3 and bob.get("/api/network_size").json() == 5
    bob.call("ResetKernel")
    assert anna.get("/api/network_size").json() == 3


def test_sessions_of_others_do_not_exist(server, anna, bob):
    session = Session(anna, "python", "private")
    assert session.status().status == 200
    assert bob.get(session.path).status == 404
    assert bob.post(session.path + "/exec", {"source": "a = 1"}).status == 404
    assert bob.post(session.path + "/interrupt", {}).status == 404
    assert bob.request("DELETE", session.path).status == 404
    assert session.id not in bob.get("/v1/sessions").text
    assert session.id in server.client().get("/v1/sessions").text, "the operator sees all"
    session.delete()


def test_files_of_others(anna, bob, script):
    assert anna.exec("import os\nd = os.path.expanduser('~/work')\nopen(d + '/mine.txt', 'w').write(%r)\nopen('/tmp/mine.txt', 'w').write(%r)"
                     % (SECRET, SECRET)).status == 200
    found = script("import os\nfound = []\nfor top in ('/tmp', os.path.expanduser('~'), '/home', '/var', '/root', '/srv', '/dev/shm', '/run', os.getcwd()):\n"
                   "  for d, _, fs in os.walk(top):\n    for f in fs:\n      if f == 'mine.txt': found.append(os.path.join(d, f))\na = found")
    assert found == []
    # The same user's next session finds it.
    assert anna.kernel("second").value("import os\na = open(os.path.expanduser('~/work') + '/mine.txt').read()", "a") == SECRET
    assert anna.kernel("second").value("import os\na = os.path.exists('/tmp/mine.txt')", "a") is False


def test_files_of_the_server(server, script):
    paths = [str(server.data), str(server.data / "test.toml"), str(server.data / "server.log"), "/etc/shadow", "/root", str(pathlib.Path.home())]
    seen = script("import os\na = []\nfor p in %r:\n  try:\n    a.append(str(os.listdir(p))[:200] if os.path.isdir(p) else open(p).read(10))\n  except OSError: pass" % paths)
    text = json.dumps(seen)
    assert "operator-" not in text and "root:" not in text and "server.log" not in text and "myelin.db" not in text, seen


def test_nothing_outside_can_be_written(script):
    assert script("import os\na = []\nfor p in ('/etc/x', '/usr/x', '/x', '/usr/bin/python3', '/proc/sys/kernel/hostname', '/sys/x', '/opt/x', '/var/x', nest.__file__):\n"
                  "  try:\n    open(p, 'a').close()\n    a.append(p)\n  except OSError: pass") == []


def test_processes_of_others_are_invisible(server, script):
    pids = script("import os\na = [int(p) for p in os.listdir('/proc') if p.isdigit()]")
    assert len(pids) < 10, pids
    commands = script("import os\na = []\nfor p in os.listdir('/proc'):\n  if p.isdigit():\n    try: a.append(open('/proc/%s/cmdline' % p).read())\n    except OSError: pass")
    assert not any("serve" in c and "--token" in c for c in commands)
    outside = [server.process.pid, *descendants(server.process.pid)][:20]
    assert script("import os\na = []\nfor p in %r:\n  if p > 20:\n    try:\n      os.kill(p, 0)\n      a.append(p)\n    except OSError: pass" % outside) == []


def test_environment_holds_no_secret(script):
    environment = script("import os\na = dict(os.environ)")
    assert not any("TOKEN" in name.upper() for name in environment), environment
    assert "operator-" not in json.dumps(environment)
    assert "operator-" not in script("a = open('/proc/1/environ', errors='replace').read() if __import__('os').access('/proc/1/environ', 4) else ''")


def test_no_descriptor_is_inherited(script):
    """Standard streams, its channel and what it opened itself; no listening socket, no database, no file of the server's."""
    links = script("import os\na = []\nfor f in os.listdir('/proc/self/fd'):\n  try: a.append(os.readlink('/proc/self/fd/' + f))\n  except OSError: pass")
    assert not any("myelin.db" in link or ".sqlite" in link or "server.log" in link or "/myelin-test-" in link for link in links), links
    assert sum(link.startswith("socket:") for link in links) <= 2, links


def test_no_network(server, script):
    source = ("import socket\na = []\nfor family, address in ((socket.AF_INET, ('127.0.0.1', %d)), (socket.AF_INET, ('192.0.2.1', 80)), (socket.AF_INET, ('1.1.1.1', 53)),"
              " (socket.AF_INET6, ('::1', %d))):\n  try:\n    s = socket.socket(family)\n    s.settimeout(3)\n    s.connect(address)\n    a.append(str(address))\n  except OSError: pass")
    assert script(source % (server.address[1], server.address[1])) == []
    names = script("import os\na = os.listdir('/sys/class/net') if os.path.isdir('/sys/class/net') else [l.split(':')[0].strip() for l in open('/proc/net/dev').readlines()[2:]]")
    assert set(names) <= {"lo"}, names
    # But a loopback of its own, which libraries expect.
    assert script("import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\na = 'up'") == "up"


def test_sockets_of_the_server(server, script):
    found = script("import os, stat\na = []\nfor top in ('/run', '/tmp', '/var/run', %r):\n  for d, _, fs in os.walk(top):\n    for f in fs:\n      p = os.path.join(d, f)\n"
                   "      try:\n        if stat.S_ISSOCK(os.lstat(p).st_mode): a.append(p)\n      except OSError: pass" % str(server.data))
    assert found == []
    assert script("import socket\na = []\nfor line in open('/proc/net/unix').readlines()[1:] if __import__('os').path.exists('/proc/net/unix') else []:\n"
                  "  name = line.split()[-1]\n  if name.startswith('@'):\n    try:\n      s = socket.socket(socket.AF_UNIX)\n      s.connect('\\0' + name[1:])\n      a.append(name)\n    except OSError: pass") == []


@pytest.mark.parametrize("attempt", [
    "libc.unshare(0x10000000)", "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)", "libc.umount2(b'/proc', 2)", "libc.chroot(b'/tmp')",
    "libc.ptrace(0, 0, 0, 0) if libc.ptrace(16, 1, 0, 0) else 0", "libc.setuid(0)", "libc.sethostname(b'x', 1)", "libc.reboot(0)",
    "libc.syscall(321, 5, 0, 0)", "libc.syscall(246, 0, 0, 0, 0)", "libc.syscall(250, 0, 0, 0, 0, 0)", "libc.syscall(298, 0, 0, 0, 0, 0)",
    "libc.syscall(175, 0, 0, 0)", "libc.syscall(425, 1, 0)", "libc.setns(3, 0)", "libc.swapon(b'/x', 0)", "libc.iopl(3)",
], ids=["unshare", "mount", "umount", "chroot", "ptrace", "setuid", "sethostname", "reboot", "bpf", "kexec", "keyctl", "perf", "module", "io_uring",
        "setns", "swapon", "iopl"])
def test_privileged_calls(bob, attempt):
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86-64")
    source = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\na = %s\ne = ctypes.get_errno()" % attempt
    answer = bob.exec(source, ["a", "e"])
    try:
        if answer.status == 200:
            data = answer.json()["data"]
            if attempt == "libc.setuid(0)" and data["a"] == 0:
                # Root of its own user namespace, if at all: what counts is that it has no power.
                assert bob.value("try:\n  open('/etc/x', 'w')\n  a = 1\nexcept OSError:\n  a = 0", "a") == 0
            elif attempt.startswith("libc.ptrace"):
                assert data["e"] != 0 or data["a"] == 0
            else:
                assert data["a"] == -1 and data["e"] != 0, data
        else:  # killed for it
            assert answer.json()["message"].startswith("KernelLost: "), answer
    finally:
        bob.post("/api/ResetKernel", {})


def test_no_capabilities(script):
    status = script("a = open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) & int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"


def test_devices(script):
    assert set(script("import os\na = os.listdir('/dev')")) <= {"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr", "pts",
                                                                "ptmx", "tty", "mqueue"}
    assert script("import os\na = []\ntry:\n  os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))\n  open('/tmp/disk', 'rb').read(1)\n  a.append(1)\nexcept OSError: pass") == []


def test_links_out_of_work(server, anna, bob):
    """A link planted in ~/work leads a later session, or the server, nowhere."""
    assert bob.exec("import os\nd = os.path.expanduser('~/work') + '/'\nfor n, t in (('etc', '/etc/shadow'), ('up', '../../..'), ('data', %r)):\n"
                    "  os.path.lexists(d + n) and os.remove(d + n)\n  os.symlink(t, d + n)" % str(server.data)).status == 200
    seen = bob.kernel("links").value("import os\nd = os.path.expanduser('~/work') + '/'\na = []\nfor n in ('etc', 'data'):\n  try: a.append(str(open(d + n).read(50)) if not os.path.isdir(d + n) else os.listdir(d + n))\n  except OSError: pass", "a")
    text = json.dumps(seen)
    assert "root:" not in text and "token" not in text, seen
    bob.exec("import os\nd = os.path.expanduser('~/work') + '/'\n[os.remove(d + n) for n in ('etc', 'up', 'data')]")


def test_random_state_is_each_session_s_own(bob):
    source = "import random, numpy, os, uuid\na = [random.random(), float(numpy.random.random()), os.getpid() * 0 or uuid.uuid4().hex]"
    seen = [bob.kernel("random%d" % i).value(source, "a") for i in range(3)]
    assert len({json.dumps(s[:1]) for s in seen}) == len({json.dumps(s[1:2]) for s in seen}) == 3, seen


def test_nothing_outlives_its_session(server, bob):
    session = Session(bob, "python", "spawner")
    before = set(descendants(server.process.pid))
    assert session.exec("import subprocess\np = subprocess.Popen(['sleep', '86399'], start_new_session=True)").status == 200
    assert set(descendants(server.process.pid)) - before
    session.delete()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = [p for p in descendants(server.process.pid) if _command(p) == b"sleep\x0086399\x00"]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail("left behind: %s" % left)


def _command(pid):
    try:
        return pathlib.Path("/proc/%d/cmdline" % pid).read_bytes()
    except OSError:
        return b""


def test_tokens_are_not_stored_in_plain(server, anna):
    for path in server.data.rglob("*"):
        if path.is_file() and path.name not in ("token", "test.toml"):
            assert anna.token.encode() not in path.read_bytes(), path
    assert anna.token not in server.log_text() and server.token not in server.log_text()


def test_data_folder_is_private(make_server):
    running = make_server(token=None)
    token = running.data / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    text = token.read_text().strip()
    assert Client(running.address, text).get("/").status == 200
    assert running.stop() == 0
    again = make_server(token=None, data=running.data)
    assert Client(again.address, text).get("/").status == 200, "the same token at each start"


def test_foreign_pages_without_a_token(make_server):
    """With auth = "none" a page of another site must not reach the kernel through its visitor's browser."""
    running = make_server(token=None, auth="none")
    client = running.client(token=None)
    assert client.get("/api/network_size").status == 200
    for origin in ("http://evil.example", "http://localhost.evil.example", "null", "https://127.0.0.1.evil.example:80"):
        answer = client.post("/exec", {"source": "a = 1", "return": "a"}, headers={"Origin": origin})
        assert answer.status == 403 and "access-control-allow-origin" not in answer.headers, (origin, answer)
    assert client.get("/", headers={"Host": "evil.example"}).status == 421
    assert client.post("/exec", {"source": "a = 1", "return": "a"}, headers={"Origin": running.url}).status == 200


def test_no_auth_on_a_public_address_is_refused(data_root):
    folder = data_root / "public"
    folder.mkdir()
    (folder / "c.toml").write_text('auth = "none"\n')
    done = subprocess.run([str(BINARY), "serve", "--host", "0.0.0.0", "--port", "0", "--data", str(folder), "--config", str(folder / "c.toml")],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "none" in done.stderr


@pytest.mark.parametrize("text,words", [("prot = 1\n", ["prot", "port"]), ("[limits]\npidz = 5\n", ["pidz", "pids"]), ("port = \"x\"\n", ["port"]),
                                        ("port = \n", [])])
def test_configuration_mistakes_are_named(data_root, text, words):
    path = data_root / "mistake.toml"
    path.write_text(text)
    done = subprocess.run([str(BINARY), "serve", "--port", "0", "--data", str(data_root / "mistake"), "--config", str(path)], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode != 0 and all(word in done.stderr for word in words) and "mistake.toml" in done.stderr, done.stderr
