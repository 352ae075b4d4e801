"""What hostile user code tries, and what comes of it: one table.

Each attempt runs as user code of the user `mallory`, in a `python` session and, where marked, in a `nest` session too. After
each one the session of another user must still answer right. At the end nothing may be left of any of them.
docs/attacks.md is written from the same table: `python tests/security/test_attacks.py`; a test fails when it is out of date.
"""

import contextlib
import dataclasses
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import pytest

from conftest import BINARY, ENGINES_PYTHON, ROOT, Server, Session, descendants, wait_until

PAGE = ROOT / "docs" / "attacks.md"
LIMITS = {"memory_per_session": "384MiB", "pids": 48, "files": 128, "scratch": "32MiB", "work_quota": "64MiB", "stdout_mib": 4}

LIMIT_OF_SOCKETS = 512 << 20

# What every attempt finds defined.
PRELUDE = r'''
import array, ctypes, errno, fcntl, mmap, os, resource, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
WORK = os.path.expanduser("~/work")
def call(number, *arguments):
    """A system call by its x86-64 number."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result
def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        s.connect(address)
def child(body):
    """The exit status of a forked child that runs `body`."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]
def frame(kind, body=b"", number=1, flags=0):
    return struct.pack("<IHHQ", len(body), kind, flags, number) + body
def piece(kind, bytes, offset=0, dtype=0, shape=(), where=0):
    return struct.pack("<BBBBIQQ", kind, dtype, len(shape), where, 0, bytes, offset) + b"".join(struct.pack("<Q", n) for n in shape)
def send(data, fds=()):
    with socket.socket(fileno=os.dup(3)) as s:
        socket.send_fds(s, [data], list(fds)) if fds else s.sendall(data)
def memory_file(size, seals=0):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
def name_of(error):
    if isinstance(error, socket.gaierror):
        return "no such name"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
def attempt(body):
    try:
        result = body()
        return "done" if result is None else str(result)
    except Exception as error:
        return name_of(error)
'''


@dataclasses.dataclass
class Attempt:
    what: str  # for the page
    source: str  # the body of a function
    expected: object  # what it returns, or one of several
    note: str = ""  # for the page
    ends: tuple = ()  # causes by which the session may end; it must, unless something is expected as well
    nest: bool = False  # in a nest session as well
    alone: bool = False  # in a session of its own, since it harms the one it is in
    counted: bool = False  # needs control groups: without them pages that processes share count in each
    check: object = None  # called with the stage and the session afterwards

    @property
    def outcomes(self):
        return (self.expected,) if isinstance(self.expected, str) else self.expected


GROUPS = {}


def group(title, *attempts):
    GROUPS[title] = list(attempts)


def refused(name, number, *arguments, errno="EPERM", nest=False):
    return Attempt("`%s`" % name, "return call(%s)" % ", ".join(str(a) for a in (number, *arguments)), errno, nest=nest)


def ends(what, source, *causes, note="", nest=False, check=None, instead=()):
    return Attempt(what, source, instead, note, causes, nest, True, "memory" in causes, check)


group(
    "Files",
    Attempt("read the password hashes of the host", "return open('/etc/shadow').read()", "ENOENT", nest=True),
    Attempt("read the server's database", "return open('@data@/myelin.db', 'rb').read(16)", "ENOENT", nest=True),
    Attempt("read the server's configuration and log", "return open('@data@/test.toml').read() + open('@data@/server.log').read()", "ENOENT"),
    Attempt("list the server's data folder", "return os.listdir('@data@')", "ENOENT", nest=True),
    Attempt("list all users' folders where the sandbox was put together", "return os.listdir('/.myelin')", "[]", "a cover is mounted there"),
    Attempt("read another user's `~/work` by its path on the host", "return open('@data@/users/@victim@/mine.txt').read()", "ENOENT", nest=True),
    Attempt("find another user's file anywhere", "return [d for d, _, fs in os.walk('/') if 'mine.txt' in fs and not d.startswith(('/proc', '/usr'))]", "[]"),
    Attempt("follow a symbolic link in `~/work` to the server's database",
            "p = WORK + '/link'\nos.path.lexists(p) and os.remove(p)\nos.symlink('@data@/myelin.db', p)\nreturn open(p, 'rb').read(16)", "ENOENT"),
    Attempt("follow a symbolic link in `~/work` to another user's file",
            "p = WORK + '/link'\nos.path.lexists(p) and os.remove(p)\nos.symlink('../@victim@/mine.txt', p)\nreturn open(p).read()", "ENOENT"),
    Attempt("climb out of `~/work` by `..`", "return open(WORK + '/../../../../@data@/myelin.db', 'rb').read(16)", "ENOENT"),
    Attempt("hard link of a system file into `~/work`", "os.link('/usr/bin/env', WORK + '/hard')", "EXDEV"),
    Attempt("hard link between the session's files and `~/work`", "write('/tmp/x', b'x')\nos.link('/tmp/x', WORK + '/hard')", "EXDEV"),
    Attempt("change a program of the system", "open('/usr/bin/env', 'r+b')", ("EROFS", "EACCES"), nest=True),
    Attempt("add a file to `/etc`", "write('/etc/ld.so.preload', b'/tmp/evil.so')", ("EROFS", "EACCES")),
    Attempt("poison a `.pyc` of the engine's environment", "import numpy\nwrite(os.path.dirname(numpy.__file__) + '/__pycache__/__init__.cpython-311.pyc', b'evil')", "EROFS", nest=True),
    Attempt("poison the server's own Python package", "import myelin.worker\nwrite(myelin.worker.__path__[0] + '/__init__.py', b'evil')", "EROFS", nest=True),
    Attempt("make a device node of the first disk", "os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))", "EPERM"),
    Attempt("open devices: memory, kernel log, disks, kvm, fuse, terminals", "return sorted({attempt(lambda p=p: open(p, 'rb')) for p in ('/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/kvm', '/dev/fuse', '/dev/ptmx', '/dev/tty', '/dev/loop-control', '/dev/net/tun')})", "['ENOENT']"),
    Attempt("a setuid copy of a program in `/tmp`", "import shutil\nshutil.copy('/usr/bin/id', '/tmp/id')\nos.chmod('/tmp/id', 0o6755)\nreturn subprocess.check_output(['/tmp/id', '-u'], text=True).strip()", "1000", "runs as the same user"),
    Attempt("a setuid copy of a program in `~/work`", "import shutil\nshutil.copy('/usr/bin/id', WORK + '/id')\ntry:\n  os.chmod(WORK + '/id', 0o6755)\n  return subprocess.check_output([WORK + '/id', '-u'], text=True).strip()\nfinally:\n  os.remove(WORK + '/id')", "1000", "runs as the same user; the mount is nosuid"),
    Attempt("the system's setuid programs", "return subprocess.run(['/usr/bin/mount', '-t', 'tmpfs', 'none', '/tmp'], capture_output=True).returncode != 0", "True", "they gain nothing: nosuid and no_new_privs"),
    Attempt("the control groups", "return os.listdir('/sys/fs/cgroup')", "ENOENT", nest=True),
    Attempt("`/sys`", "return os.listdir('/sys/kernel')", "ENOENT"),
)

group(
    "/proc",
    Attempt("see processes of others", "return sum(p.isdigit() for p in os.listdir('/proc'))", "1", "its own"),
    Attempt("`/proc/1/root`", "return os.listdir('/proc/1/root')", "ENOENT", nest=True),
    Attempt("`/proc/1/environ`", "return open('/proc/1/environ').read()", "ENOENT", nest=True),
    Attempt("`/proc/1/mem`", "return open('/proc/1/mem', 'r+b')", "ENOENT", nest=True),
    Attempt("`/proc/1/fd`", "return os.listdir('/proc/1/fd')", "ENOENT", nest=True),
    Attempt("`/proc/PID` of the server", "return os.listdir('/proc/@pid@')", "ENOENT"),
    Attempt("a core pattern that runs a program", "write('/proc/sys/kernel/core_pattern', b'|/tmp/evil')", ("EROFS", "EACCES"), nest=True),
    Attempt("other kernel settings", "return sorted({attempt(lambda p=p: write('/proc/sys/' + p, b'1')) for p in ('vm/overcommit_memory', 'fs/file-max', 'kernel/pid_max', 'kernel/modprobe', 'net/ipv4/ip_forward', 'user/max_user_namespaces')})", ("['EACCES']", "['EROFS']", "['EACCES', 'EROFS']", "['EACCES', 'EPERM']", "['EACCES', 'ENOENT']")),
    Attempt("`/proc/sysrq-trigger`", "write('/proc/sysrq-trigger', b'b')", ("EACCES", "EROFS", "ENOENT")),
    Attempt("`/proc/kcore`, `/proc/kmsg`", "return sorted({attempt(lambda p=p: open(p, 'rb').read(1)) for p in ('/proc/kcore', '/proc/kmsg')})", ("['EACCES']", "['EPERM']", "['EACCES', 'EPERM']", "['ENOENT']", "['EACCES', 'ENOENT']", "['ENOENT', 'EPERM']")),
    Attempt("escape the kernel's out-of-memory choice", "write('/proc/self/oom_score_adj', b'-1000')", ("EACCES", "EPERM")),
    Attempt("map another uid", "write('/proc/self/uid_map', b'0 0 1')", "EPERM"),
    Attempt("find other users' folders in the list of mounts", "return '@victim@' in open('/proc/self/mountinfo').read()", "False"),
)

group(
    "System calls that are refused",
    refused("unshare (user)", 272, 0x10000000, nest=True), refused("unshare (mount)", 272, 0x20000), refused("setns", 308, 3, 0),
    refused("clone (user namespace)", 56, 0x10000011, 0, 0, 0, 0, nest=True), refused("clone (pid namespace)", 56, 0x20000011, 0, 0, 0, 0),
    refused("clone3", 435, 0, 0, errno="ENOSYS"),
    refused("mount", 165, 0, "b'/tmp'", "b'tmpfs'", 0, 0, nest=True), refused("umount2", 166, "b'/proc'", 2), refused("pivot_root", 155, "b'/'", "b'/tmp'"),
    refused("chroot", 161, "b'/tmp'"), refused("fsopen", 430, "b'tmpfs'", 0), refused("open_tree", 428, -100, "b'/'", 1),
    refused("move_mount", 429, -100, "b'/'", -100, "b'/tmp'", 0), refused("mount_setattr", 442, -100, "b'/'", 0, 0, 0), refused("open_tree_attr", 467, -100, "b'/'", 1, 0, 0),
    refused("name_to_handle_at", 303, -100, "b'/'", 0, 0, 0), refused("open_by_handle_at", 304, 3, 0, 0),
    refused("io_uring_setup", 425, 8, 0, nest=True), refused("io_uring_enter", 426, 3, 0, 0, 0, 0, 0), refused("io_uring_register", 427, 3, 0, 0, 0),
    refused("userfaultfd", 323, 0, nest=True), refused("keyctl", 250, 0, -4, 0, 0, 0), refused("add_key", 248, "b'user'", "b'x'", "b'x'", 1, -4),
    refused("request_key", 249, "b'user'", "b'x'", 0, -4), refused("bpf", 321, 5, 0, 0, nest=True), refused("perf_event_open", 298, 0, 0, -1, -1, 0),
    refused("ptrace (attach)", 101, 16, 1, 0, 0, nest=True), refused("ptrace (traceme)", 101, 0, 0, 0, 0), refused("process_vm_readv", 310, 1, 0, 0, 0, 0, 0, nest=True),
    refused("process_vm_writev", 311, 1, 0, 0, 0, 0, 0), refused("pidfd_getfd", 438, 3, 3, 0), refused("kcmp", 312, 1, 1, 0, 0, 0),
    refused("process_madvise", 440, 3, 0, 0, 4, 0), refused("move_pages", 279, 1, 0, 0, 0, 0, 0), refused("migrate_pages", 256, 1, 0, 0, 0),
    refused("kexec_load", 246, 0, 0, 0, 0), refused("kexec_file_load", 320, 0, 0, 0, 0, 0), refused("init_module", 175, 0, 0, 0), refused("finit_module", 313, 0, 0, 0),
    refused("delete_module", 176, "b'x'", 0), refused("reboot", 169, 0xFEE1DEAD, 672274793, 0x1234567, 0), refused("swapon", 167, "b'/tmp/x'", 0), refused("swapoff", 168, "b'/x'"),
    refused("iopl", 172, 3), refused("ioperm", 173, 0, 8, 1), refused("modify_ldt", 154, 0, 0, 0), refused("personality (no address randomisation)", 135, 0x40000),
    refused("settimeofday", 164, 0, 0), refused("clock_settime", 227, 0, 0), refused("adjtimex", 159, 0), refused("sethostname", 170, "b'x'", 1),
    refused("quotactl", 179, 0, 0, 0, 0), refused("acct", 163, 0), refused("syslog", 103, 3, 0, 0), refused("vhangup", 153), refused("fanotify_init", 300, 0, 0),
    refused("memfd_secret", 447, 0), refused("io_setup (one quota for the whole machine)", 206, 65536, 0),
    Attempt("`ioctl` TIOCSTI: type into the operator's terminal", "return call(16, 0, 0x5412, b'x')", "EPERM", nest=True),
    Attempt("TIOCSTI with upper bits set, past a careless filter", "return call(16, 0, (1 << 32) | 0x5412, b'x')", "EPERM"),
    ends("a 32-bit system call, past a filter of 64-bit ones", "m = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\nctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()", "signal", note="killed (SIGSYS)"),
    ends("an x32 system call, past a filter of 64-bit ones", "call(0x40000000 + 39)", "signal", note="killed (SIGSYS)"),
)

group(
    "Privileges",
    Attempt("`setuid(0)`", "os.setuid(0)", ("EINVAL", "EPERM"), nest=True),
    Attempt("become the host's uid of the sessions, or root's group", "return sorted({attempt(lambda: os.setuid(61525)), attempt(lambda: os.setgid(0)), attempt(lambda: os.setgroups([0]))})", ("['EINVAL', 'EPERM']", "['EPERM']")),
    Attempt("take capabilities", "return call(126, struct.pack('<II', 0x20080522, 0), struct.pack('<6I', *[0xffffffff] * 6))", "EPERM", nest=True),
    Attempt("capabilities that are there", "t = open('/proc/self/status').read()\nreturn [l.split()[1] for l in t.splitlines() if l[:6] in ('CapEff', 'CapPrm', 'CapBnd')]", "['0000000000000000', '0000000000000000', '0000000000000000']", nest=True),
    Attempt("undo `no_new_privs`", "return call(157, 38, 0, 0, 0, 0)", "EINVAL"),
    Attempt("undo the system-call filter", "return call(157, 22, 0, 0, 0, 0)", ("EINVAL", "EPERM")),
    Attempt("raise its limits of files, processes, core size", "return sorted({attempt(lambda r=r: resource.setrlimit(r, (1 << 20, 1 << 20))) for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)})", "['ValueError']", "not allowed to raise maximum limit", nest=True),
    Attempt("a higher priority", "os.nice(-5)", ("EPERM", "EACCES")),
    Attempt("real-time scheduling", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))", "EPERM", nest=True),
    Attempt("real-time input and output", "return call(251, 1, 0, 1 << 13)", "EPERM"),
    Attempt("CPUs of its choice", "os.sched_setaffinity(0, {0})\nreturn len(os.sched_getaffinity(0))", "1", "allowed: the weight of its control group still bounds its share"),
    Attempt("lock 1 GiB of memory", "m = mmap.mmap(-1, 1 << 30)\nreturn call(149, ctypes.addressof(ctypes.c_char.from_buffer(m)), 1 << 30)", ("ENOMEM", "EPERM", "EAGAIN")),
)

group(
    "Network",
    Attempt("connect to the server", "connect(socket.AF_INET, ('127.0.0.1', @port@))", "ECONNREFUSED", "its loopback is its own", nest=True),
    Attempt("connect to the server by IPv6", "connect(socket.AF_INET6, ('::1', @port@))", ("ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH")),
    Attempt("the metadata service of a cloud, 169.254.169.254", "connect(socket.AF_INET, ('169.254.169.254', 80))", "ENETUNREACH", nest=True),
    Attempt("a public name server", "connect(socket.AF_INET, ('1.1.1.1', 53))", "ENETUNREACH"),
    Attempt("send a datagram outside", "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\ns.sendto(b'x', ('255.255.255.255', 9))", "ENETUNREACH"),
    Attempt("look a name up", "return socket.getaddrinfo('example.org', 80)", ("no such name", "no such name")),
    Attempt("an abstract socket of the host", "connect(socket.AF_UNIX, '\\0@abstract@')", "ECONNREFUSED", nest=True),
    Attempt("a socket file of the host", "connect(socket.AF_UNIX, '@socket@')", "ENOENT"),
    Attempt("raw sockets", "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)", "EPERM"),
    *(Attempt("%s sockets" % name, "socket.socket(%d, %s)" % (family, kind), "EAFNOSUPPORT") for name, family, kind in (
        ("netlink", 16, "socket.SOCK_RAW"), ("packet", 17, "socket.SOCK_RAW"), ("vsock", 40, "socket.SOCK_STREAM"), ("kernel crypto (AF_ALG)", 38, "socket.SOCK_SEQPACKET"),
        ("bluetooth", 31, "socket.SOCK_RAW"), ("XDP", 44, "socket.SOCK_RAW"))),
    Attempt("a privileged port", "socket.create_server(('127.0.0.1', 80))", "EACCES"),
    Attempt("configure its interface", "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n  fcntl.ioctl(s, 0x8916, struct.pack('16sH2s4s8s', b'lo', 2, b'', bytes([10, 0, 0, 1]), b''))", "EPERM"),
)

DAEMON = "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    [signal.signal(n, signal.SIG_IGN) for n in range(1, 32) if n not in (9, 19)]\n    time.sleep(86397)\n  os._exit(0)\nos.wait()"

group(
    "Processes and signals",
    Attempt("`kill(-1, SIGKILL)`", "pid = os.fork()\nif pid == 0:\n  time.sleep(86397)\nos.kill(-1, 9)\nreturn os.waitpid(pid, 0)[1]", "9", "reaches its own session's processes only", nest=True),
    Attempt("kill the pid 1 of its namespace", "os.kill(1, 9)\ntime.sleep(0.1)\nos.kill(1, 0)", ("done", "EPERM"), "it does not die of signals from inside", alone=True),
    Attempt("kill the server by its pid", "os.kill(@pid@, 9)", "ESRCH", nest=True),
    Attempt("a pidfd of the server", "return os.pidfd_open(@pid@)", "ESRCH"),
    Attempt("survive by double fork, setsid and ignored signals", DAEMON, "done", "ends with its session", alone=True, nest=True),
    ends("survive the session's own death", DAEMON + "\nos._exit(9)", "exited", note="ends with its session"),
    ends("keep the channel open in a child when the session dies", "if os.fork() == 0:\n  time.sleep(86397)\n  os._exit(0)\nos._exit(9)", "exited", note="the cause is told at once"),
    Attempt("stop itself (SIGSTOP) in a call", "os.kill(os.getpid(), signal.SIGSTOP)", "deleted", "until it is interrupted, deleted or its deadline passes", alone=True),
    Attempt("ignore SIGINT in an endless loop", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n  pass", "deleted", "as above", alone=True),
    Attempt("an alarm each microsecond", "signal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)\nwhile True:\n  pass", "deleted", "hurts itself only", alone=True),
    Attempt("run a program from a memory file", "fd = os.memfd_create('x')\nos.write(fd, open('/usr/bin/cat', 'rb').read())\nt = subprocess.run(['/proc/self/fd/%d' % fd, '/proc/self/status'], pass_fds=[fd], capture_output=True, text=True).stdout\nreturn [l.split()[1] for l in t.splitlines() if l.startswith(('CapEff', 'NoNewPrivs', 'Seccomp:'))]", "['0000000000000000', '1', '2']", "allowed; confined as all it runs"),
    ends("crash, to leave a core file with what was in memory", "signal.signal(signal.SIGSEGV, signal.SIG_DFL)\nctypes.string_at(0)", "signal", note="core size 0, a limit that it can't raise"),
)

POISON = ("os.environ['LD_PRELOAD'] = WORK + '/lib/evil.so'\nhome = os.path.expanduser('~')\nfor p in (WORK + '/lib', WORK + '/.cache/jax', WORK + '/.cache/matplotlib', WORK + '/x86_64', home + '/.local/lib/python3.11/site-packages', home + '/__pycache__'):\n"
          "  os.makedirs(p, exist_ok=True)\nfor p in (WORK + '/lib/evil.so', WORK + '/lib/libnrnmech.so', WORK + '/x86_64/libnrnmech.so', WORK + '/.cache/jax/evil', WORK + '/.cache/matplotlib/fontlist-v330.json', WORK + '/sitecustomize.py', home + '/sitecustomize.py', home + '/.local/lib/python3.11/site-packages/usercustomize.py', home + '/json.py', '/tmp/json.py', '/dev/shm/evil'):\n  write(p, b'raise SystemExit(99)')")
FIND_POISON = ("import os, subprocess, sys\nh = os.path.expanduser('~')\na = [v for v in ('LD_PRELOAD', 'PYTHONPATH', 'PYTHONSTARTUP') if v in os.environ]\n"
               "a += [p for p in (h + '/json.py', '/tmp/json.py', '/dev/shm/evil', h + '/sitecustomize.py', h + '/.local/lib') if os.path.exists(p)]\na += [l for l in open('/proc/self/maps') if 'evil' in l]\n"
               "r = subprocess.run([sys.executable, '-c', 'import json'], capture_output=True)\nif r.returncode: a.append(r.stderr.decode()[-300:])")


def poison_reaches_nobody(stage, session):
    session.delete()
    for client in (stage.mallory, stage.anna):
        after = Session(client, "python", "after-poison")
        assert after.value(FIND_POISON, "a") == []
        if client is stage.anna:
            seen = after.value("import os\na = [f for d, _, fs in os.walk(os.path.expanduser('~/work')) for f in fs]", "a")
            assert not any("evil" in f or "nrnmech" in f or "fontlist" in f for f in seen), seen
        after.delete()


def others_unchanged(stage, session):
    after = Session(stage.mallory, "python", "after-tampering")
    assert after.value("import json, os\na = [sum([1, 1]), json.dumps({'b': 1}), os.getcwd()]", "a") == [2, '{"b": 1}', "/session/home"]
    after.delete()


group(
    "What comes after, and caches",
    Attempt("LD_PRELOAD, sitecustomize, `json.py`, compiled mechanisms, caches of JAX and matplotlib for the next session", POISON, "done", "the next session starts clean; another user never sees them", alone=True, check=poison_reaches_nobody),
    Attempt("replace builtins and standard functions for the next session", "import builtins, json\nbuiltins.sum = json.dumps = os.getcwd = lambda *a, **k: 'evil'", "done", "its own interpreter only", alone=True, check=others_unchanged),
    Attempt("the cache of the process that sessions are forked from", "return attempt(lambda: os.listdir('/.myelin/cache'))", "ENOENT"),
    Attempt("caches are the user's own", "return sorted({os.environ[n].startswith(WORK) for n in ('XDG_CACHE_HOME', 'MPLCONFIGDIR', 'JAX_COMPILATION_CACHE_DIR')})", "[True]"),
    Attempt("secrets in the environment", "return [k for k, v in os.environ.items() if 'TOKEN' in k.upper() or '@token@' in v]", "[]", nest=True),
    Attempt("descriptors that were left open", "return sorted(os.readlink('/proc/self/fd/%s' % f).split(':')[0] for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f))", "['/dev/null', 'pipe', 'pipe', 'socket']", "standard streams and its channel", alone=True),
)

ROPE = "send(frame(4, %s))\ntime.sleep(60)"
SEALED = "fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW"
IN_FILE = "struct.pack('<I', 1) + piece(1, 1 << 20, 0, 5, (1 << 20,), 1)"


def next_call_is_refused(stage, session):
    answer = session.exec("a = 1", "a")
    assert answer.status == 410 and "protocol" in answer.text, answer


group(
    "The channel to the server (descriptor 3)",
    ends("random bytes", "import random\nsend(random.Random(@seed@).randbytes(65536))\ntime.sleep(60)", "protocol", nest=True),
    ends("a frame of unknown kind", "send(frame(99))\ntime.sleep(60)", "protocol"),
    ends("a frame that only the server sends", "send(frame(3, b'x'))\ntime.sleep(60)", "protocol"),
    ends("unknown flags", "send(frame(6, b'{}', 1, 0x80))\ntime.sleep(60)", "protocol"),
    ends("a frame of 4 GiB", "send(struct.pack('<IHHQ', 0xffffffff, 4, 0, 1))\ntime.sleep(60)", "protocol"),
    ends("an answer to a call that is not its own", "send(frame(4, struct.pack('<I', 0), 77))\ntime.sleep(60)", "protocol"),
    Attempt("a forged answer to its own call", "t = b'{\"data\":\"forged\"}'\nsend(frame(4, struct.pack('<I', 1) + piece(0, len(t)) + t))", "forged", "its own client's, as if it had computed it; the true answer that follows ends the session", alone=True, check=next_call_is_refused),
    ends("a rope of 2³² pieces", ROPE % "struct.pack('<I', 0xffffffff)", "protocol"),
    ends("a rope whose data is beyond its end", ROPE % "struct.pack('<I', 1) + piece(0, 1 << 40)", "protocol"),
    ends("a rope whose size overflows 64 bits", ROPE % "struct.pack('<I', 1) + piece(1, 0, 0, 10, (1 << 62, 1 << 62))", "protocol"),
    ends("a rope with an offset that wraps around", ROPE % "struct.pack('<I', 1) + piece(0, 16, (1 << 64) - 8)", "protocol"),
    ends("a rope that points to a memory file which is not there", ROPE % IN_FILE, "protocol"),
    ends("a memory file that is not sealed", "send(frame(4, %s, 1, 1), [memory_file(1 << 20)])\ntime.sleep(60)" % IN_FILE, "protocol"),
    ends("a memory file that shrinks after it was sent", "fd = memory_file(1 << 20)\nsend(frame(4, %s, 1, 1), [fd])\nos.ftruncate(fd, 0)\ntime.sleep(60)" % IN_FILE, "protocol", nest=True),
    ends("a sealed memory file that is shorter than said", "send(frame(4, %s, 1, 1), [memory_file(4096, %s)])\ntime.sleep(60)" % (IN_FILE, SEALED), "protocol"),
    ends("`/dev/zero` in place of a memory file", "send(frame(4, %s, 1, 1), [os.open('/dev/zero', os.O_RDWR)])\ntime.sleep(60)" % IN_FILE, "protocol"),
    ends("a pipe in place of a memory file, to block the server's read", "send(frame(4, %s, 1, 1), [os.pipe()[0]])\ntime.sleep(60)" % IN_FILE, "protocol"),
    Attempt("100 descriptors with each of 200 frames", "fd = os.open('/dev/null', os.O_RDONLY)\nfor _ in range(200):\n  send(frame(6, b'{}', 1, 1), [fd] * 100)", ("done", "ETOOMANYREFS"), "the server closes them", alone=True),
    Attempt("a flood of progress frames", "data = frame(6, b'{\"done\":0.5}') * 2000\nwhile True:\n  send(data)", "deleted", "read at a bounded rate", alone=True),
    ends("close the channel", "os.close(3)\ntime.sleep(60)", "exited", "signal", note="the session ends"),
    Attempt("a forked child that comes out of the script as well", "return 'parent' if os.fork() else 'child'", "parent", "the child ends there", alone=True, nest=True),
    Attempt("a child that reads the next call", "if os.fork() == 0:\n  os.read(3, 100000)\n  time.sleep(86397)", "done", "its own call is lost", alone=True),
)

TCP = """for _ in range(8):
    if os.fork() == 0:
        keep, server = [], socket.create_server(('127.0.0.1', 0), backlog=100)
        try:
            while True:
                a = socket.socket()
                a.connect(server.getsockname())
                keep += [a, server.accept()[0]]
                a.setblocking(False)
                try:
                    while True:
                        a.send(bytes(1 << 20))
                except BlockingIOError:
                    pass
        except OSError:
            time.sleep(86397)
time.sleep(2)"""


def tcp_is_bounded():
    line = next(line for line in open("/proc/net/sockstat") if line.startswith("TCP:"))
    pages = int(line.split()[line.split().index("mem") + 1])
    assert pages * os.sysconf("SC_PAGE_SIZE") < LIMIT_OF_SOCKETS, line


def large_answers_of_others(stage, session):
    answer = stage.witness.exec("import numpy\nb = numpy.arange(100_000) * 0.5", "b")
    assert answer.status == 200 or (answer.status in (400, 422) and "descriptors in flight" in answer.text), answer
    session.delete()
    wait_until(lambda: stage.witness.exec("1", []).status == 200, "the other session is there")

    def large():
        answer = stage.witness.exec("import numpy\nb = numpy.arange(100_000) * 0.5", "b")
        return answer.status == 200 and answer.json()["data"][99_999] == 49999.5

    wait_until(large, "large answers again", 30)


group(
    "Resources",
    Attempt("fork bomb", "n = 0\ntry:\n  while n < 5000:\n    if os.fork() == 0:\n      time.sleep(86397)\n      os._exit(0)\n    n += 1\nexcept OSError as e:\n  return name_of(e) if n < 48 else n", "EAGAIN", alone=True, nest=True, counted=True),
    Attempt("thread bomb", "n = 0\ntry:\n  while n < 5000:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    n += 1\nexcept RuntimeError:\n  return 'RuntimeError' if n < 48 else n", "RuntimeError", alone=True),
    Attempt("descriptor bomb", "keep = []\ntry:\n  while len(keep) < 5000:\n    keep.append(open('/dev/null'))\nexcept OSError as e:\n  return name_of(e) if len(keep) < 128 else len(keep)", "EMFILE", nest=True, alone=True),
    ends("memory", "keep = []\nwhile True:\n  keep.append(bytearray(b'x') * (1 << 24))", "memory", nest=True),
    ends("memory by 20 children", "def eat():\n  keep = []\n  while True:\n    keep.append(bytearray(b'x') * (1 << 22))\n    time.sleep(0.001)\nfor _ in range(20):\n  if os.fork() == 0:\n    eat()\nwhile True:\n  os.wait()", "memory", note="charged to its control group", instead="ECHILD"),
    ends("memory by memory files", "fd = memory_file(0)\nresource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)\nkeep = []\nwhile True:\n  fd = os.memfd_create('x')\n  keep.append(fd)\n  for _ in range(32):\n    os.write(fd, bytes(1 << 20))", "memory", note="charged to its control group"),
    ends("memory by System V segments", "libc.shmat.restype = ctypes.c_void_p\nwhile True:\n  i = libc.shmget(0, ctypes.c_size_t(1 << 26), 0o1600)\n  p = libc.shmat(i, None, 0)\n  ctypes.memset(p, 1, 1 << 26)", "memory", note="charged to its control group"),
    Attempt("a full `/tmp`, working directory and `/dev/shm`", "def fill(p):\n  n = 0\n  try:\n    with open(p, 'wb', 0) as f:\n      while n < 1000:\n        f.write(bytes(1 << 20))\n        n += 1\n  except OSError as e:\n    return name_of(e) if n <= 32 else str(n)\n  finally:\n    os.remove(p)\nreturn sorted({fill(p) for p in ('/tmp/f', os.path.expanduser('~/f'), '/dev/shm/f')})", "['ENOSPC']", nest=True),
    Attempt("10 GB in one file of `~/work`", "with open(WORK + '/f', 'wb') as f:\n  try:\n    f.truncate(10 ** 10)\n  finally:\n    os.remove(WORK + '/f')", "EFBIG"),
    Attempt("pipe buffers", "keep = []\ntry:\n  while True:\n    r, w = os.pipe()\n    keep.append((r, w))\n    attempt(lambda: fcntl.fcntl(w, 1031, 1 << 20))\n    os.set_blocking(w, False)\n    os.write(w, bytes(1 << 20))\nexcept OSError as e:\n  return name_of(e)", "EMFILE", "bounded by its descriptors and the kernel's quota of a uid", alone=True),
    Attempt("socket buffers", "keep = []\ntry:\n  while True:\n    a, b = socket.socketpair()\n    keep.append((a, b))\n    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)\n    a.setblocking(False)\n    a.send(bytes(100_000))\nexcept OSError as e:\n  return name_of(e)", "EMFILE", "bounded by its descriptors", alone=True),
    Attempt("buffers of TCP over its loopback", TCP, "done", "counted by its control group; the host has one pool for all", ("memory",), alone=True, counted=True, check=lambda stage, session: tcp_is_bounded()),
    Attempt("descriptors in flight", "f = os.open('/dev/null', os.O_RDONLY)\nglobal keep\nkeep = []\ntry:\n  while True:\n    keep.append(socket.socketpair())\n    for _ in range(20):\n      socket.send_fds(keep[-1][0], [b'x'], [f] * 250)\nexcept OSError as e:\n  return name_of(e)", "ETOOMANYREFS", "while it lasts, large answers of other sessions can fail with an error that says so: the kernel counts per uid", alone=True, check=large_answers_of_others),
    Attempt("inotify instances", "global keep\nkeep = []\nwhile True:\n  fd = libc.inotify_init()\n  if fd < 0:\n    return name_of(OSError(ctypes.get_errno(), ''))\n  keep.append(fd)", "EMFILE", alone=True),
    Attempt("epoll instances that watch each other", "import select\nkeep = []\ntry:\n  while True:\n    e = select.epoll()\n    [e.register(o, 1) for o in keep[-3:]]\n    keep.append(e)\nexcept OSError as error:\n  return name_of(error)", ("EMFILE", "ELOOP", "EINVAL"), alone=True),
    Attempt("timers", "t = ctypes.c_void_p()\nfor n in range(1_000_000):\n  if libc.timer_create(1, None, ctypes.byref(t)):\n    return name_of(OSError(ctypes.get_errno(), ''))", ("EAGAIN", "ENOMEM"), alone=True),
    Attempt("System V message queues", "import itertools\nfor n in itertools.count():\n  if libc.msgget(0, 0o1600) < 0:\n    return name_of(OSError(ctypes.get_errno(), ''))", "ENOSPC", "those of its own namespace", alone=True),
    Attempt("20 processes that spin", "for _ in range(20):\n  if os.fork() == 0:\n    while True:\n      pass", "done", "its control group's share of the CPU, and no more", alone=True, counted=True),
    Attempt("50 MB of output", "for _ in range(50):\n  print('x' * 1_000_000)", "done", "cut at its limit", alone=True),
    Attempt("an answer nested 100,000 deep", "a = []\nfor _ in range(100_000):\n  a = [a]\nglobal deep\ndeep = a\nreturn 'made'", "made", alone=True, check=lambda stage, session: refused_answer(session, "deep")),
    Attempt("an answer that contains itself", "global deep\ndeep = []\ndeep.append(deep)\nreturn 'made'", "made", alone=True, check=lambda stage, session: refused_answer(session, "deep")),
    Attempt("an exception whose text is 100 MB, and one whose text raises", "class E(Exception):\n  def __str__(self): raise ValueError(self)\nraise E()", ("E", "ValueError"), alone=True, check=lambda stage, session: huge_error(session)),
)


def refused_answer(session, name):
    answer = session.exec("pass", name)
    assert answer.status in (400, 410, 422), answer
    session.delete()


def huge_error(session):
    answer = session.exec("raise ValueError('x' * 100_000_000)")
    assert answer.status in (400, 422) and len(answer.body) < 2 << 20, answer.status
    answer = session.exec("class E(Exception):\n  def __str__(self): raise ValueError(self)\nraise E()")
    assert answer.status in (400, 422), answer
    assert session.value("a = 2", "a") == 2


# ---- the stage ---------------------------------------------------------------------------------------------------------------------


def group_of(data):
    """The name of a server's control group: FNV-1a of its data folder."""
    value = 14695981039346656037
    for byte in os.path.realpath(data).encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return "myelin-%016x" % value


class Stage:
    """A server with an attacker and another user, whose sessions answer right before and after everything."""

    def __init__(self, server, seed, run_as=()):
        self.server, self.seed = server, seed
        self.shared = {}  # engine → the session of attempts that do it no harm
        self.anna, self.mallory = (server.client(token=add_token(server, name, run_as)) for name in ("anna", "mallory"))
        self.witness = Session(self.anna, "python", "witness")
        self.nest_witness = Session(self.anna, "nest", "witness")
        self.witness.value("import os\nopen(os.path.expanduser('~/work') + '/mine.txt', 'w').write('private')\nx = 41\na = 0", "a")
        self.nest_witness.value("nest.ResetKernel()\nn = nest.Create('iaf_psc_alpha', 3)\na = len(n)", "a")
        # Folders of users have random names; the witness' is the one that is there.
        self.victim = next(p.parent.name for p in server.data.glob("users/*/mine.txt"))
        for engine in ("python", "nest"):  # the attacker's folder, and whatever is made at first use
            Session(self.mallory, engine, "first").delete()
        self.abstract = "myelin-attack-%d-%s" % (os.getpid(), server.data.name)
        self.listeners = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self.socket_path = "%s.sock" % server.data
        self.listeners[0].bind("\0" + self.abstract)
        self.listeners[1].bind(self.socket_path)
        os.chmod(self.socket_path, 0o777)
        for listener in self.listeners:
            listener.listen()
        self.baseline = self.settled()

    def close(self):
        for listener in self.listeners:
            listener.close()
        os.unlink(self.socket_path)

    def fill_in(self, source):
        for name, value in (("data", self.server.data), ("victim", self.victim), ("pid", self.server.process.pid), ("port", self.server.address[1]),
                            ("abstract", self.abstract), ("socket", self.socket_path), ("token", self.server.token), ("seed", self.seed)):
            source = source.replace("@%s@" % name, str(value))
        return source

    def state(self):
        """What the attempts must leave as it was."""
        pid = self.server.process.pid
        below = descendants(pid)
        return {
            "processes": len(below),
            "descriptors": len(os.listdir("/proc/%d/fd" % pid)),
            "mounts": len(pathlib.Path("/proc/%d/mountinfo" % pid).read_text().splitlines()),
            "shared memory": sorted(os.listdir("/dev/shm")),
            "scratch": sorted(os.listdir(self.server.data / "scratch")),
            "System V": [len(pathlib.Path("/proc/sysvipc/" + kind).read_text().splitlines()) for kind in ("shm", "sem", "msg")],
            "control groups": sorted({p.name for depth in range(5) for p in pathlib.Path("/sys/fs/cgroup").glob("*/" * depth + group_of(self.server.data) + "/s_*")}),
            "server files": sorted(p.name for p in self.server.data.iterdir() if p.name not in ("server.log",) and not p.name.startswith("myelin.db")),
        }

    def settled(self):
        """The state once it has stopped to change: ends take a moment, and inits are made ahead."""
        last, since, until = None, time.monotonic(), time.monotonic() + 60
        while time.monotonic() < until:
            now = self.state()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > 1:
                break
            time.sleep(0.1)
        return last

    def others_answer_right(self):
        assert self.witness.value("x += 1\na = x - 41", "a") > 0
        assert self.nest_witness.value("a = nest.network_size", "a") == 3

    def cause(self, session):
        return wait_until(lambda: session.status().json().get("cause"), "the cause of an end")

    def run(self, attempt, session):
        body = "\n".join("    " + line for line in self.fill_in(attempt.source).splitlines())
        source = PRELUDE + "def body():\n" + body + "\na = attempt(body)\n"
        if "deleted" in attempt.outcomes:  # it never answers by itself
            box = []
            thread = threading.Thread(target=lambda: box.append(session.exec(source, "a")))
            thread.start()
            wait_until(lambda: session.status().json()["state"] == "busy", "the attempt runs")
            time.sleep(0.3)
            self.others_answer_right()
            session.delete()
            thread.join(60)
            return box[0].json().get("detail", box[0].text) if box else "no answer"
        answer = session.exec(source, "a")
        if answer.status == 200:
            return answer.json()["data"]
        return answer


def set_stage(server, isolation, run_as=()):
    if os.uname().machine != "x86_64":
        pytest.skip("system calls are given by the numbers of x86-64")
    found = server.client().get("/v1/health").json()["isolation"]
    if found not in isolation:
        pytest.skip("isolation is %r here (see `myelin doctor`)" % found)
    seed = random.randrange(2**32)
    print("seed", seed)
    return Stage(server, seed, run_as)


@pytest.fixture(scope="module")
def stage(module_server):
    made = set_stage(module_server(token="operator-" + "k" * 40, limits=LIMITS), ("full",))
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain_stage(data_root):
    """The server of a user without privileges. It has no control groups, so limits of memory are looked after, not enforced."""
    run_as = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    if os.geteuid() != 0 or subprocess.run([*run_as, "test", "-x", str(BINARY), "-a", "-x", ENGINES_PYTHON], capture_output=True).returncode:
        pytest.skip("needs root to become nobody, and a build that nobody may read")
    data = data_root / "plain"
    data.mkdir()
    os.chown(data, 65534, 65534)
    token = "operator-" + "k" * 40
    command = [*run_as, str(BINARY), "serve", "--host", "127.0.0.1", "--port", "0", "--data", str(data), "--config", str(data / "test.toml"), "--token", token]
    server = Server(data, token, settings={"limits": LIMITS}, command=command)
    try:
        made = set_stage(server, ("full", "no cgroup"), run_as)
        yield made
        made.close()
    finally:
        with contextlib.suppress(Exception):
            server.stop(30)
        server.kill()


def add_token(server, name, run_as=()):
    out = subprocess.run([*run_as, str(BINARY), "token", "add", name, "--data", str(server.data)], capture_output=True, text=True, timeout=60, check=True).stdout
    return next(word for word in out.split() if len(word) >= 20 and "/" not in word).rpartition("=")[2]


def cases(engine):
    return [pytest.param(a, id="%s-%s" % (title, a.what)) for title, attempts in GROUPS.items() for a in attempts if engine == "python" or a.nest]


def attack(stage, engine, attempt):
    shared = stage.shared
    session = None if attempt.alone else shared.get(engine)
    if session is None:
        session = Session(stage.mallory, engine, "attack-%d" % time.monotonic_ns())
        if not attempt.alone:
            shared[engine] = session
    try:
        result = stage.run(attempt, session)
        stage.others_answer_right()
        if attempt.ends and result not in attempt.outcomes:
            assert not isinstance(result, str), "it went on: %s" % result
            assert result.status == 410, result
            assert stage.cause(session)["code"] in attempt.ends, session.status().json()["cause"]
        elif not attempt.ends:
            assert isinstance(result, str), "the session ended: %s" % result
            if "deleted" in attempt.outcomes:
                assert "deleted" in result, result
            else:
                assert result in attempt.outcomes, result
        if attempt.check:
            attempt.check(stage, session)
            stage.others_answer_right()
    except BaseException:
        shared.pop(engine, None)
        raise
    finally:
        if attempt.alone:
            with contextlib.suppress(OSError):
                session.delete()


@pytest.mark.parametrize("attempt", cases("python"))
def test_python(stage, attempt):
    attack(stage, "python", attempt)


@pytest.mark.parametrize("attempt", cases("nest"))
def test_nest(stage, attempt):
    attack(stage, "nest", attempt)


@pytest.mark.parametrize("attempt", [case for case in cases("python") if not case.values[0].counted])
def test_server_without_privileges(plain_stage, attempt):
    attack(plain_stage, "python", attempt)


@pytest.mark.parametrize("which", ["stage", "plain_stage"])
def test_nothing_is_left(which, request):
    """Processes, descriptors, mounts, shared memory, files: as before the first attempt."""
    stage = request.getfixturevalue(which)
    for session in stage.shared.values():
        session.delete()
    stage.shared.clear()

    def difference():
        now = stage.settled()
        return {key: (stage.baseline[key], now[key]) for key in now if now[key] != stage.baseline[key]}

    until = time.monotonic() + 30
    while (left := difference()) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left, left
    commands = [pathlib.Path("/proc/%d/cmdline" % p) for p in descendants(stage.server.process.pid)]
    assert not [c for c in commands if c.exists() and b"86397" in c.read_bytes()]
    stage.others_answer_right()
    assert stage.witness.value("import os\na = open(os.path.expanduser('~/work') + '/mine.txt').read()", "a") == "private"


# ---- the page ----------------------------------------------------------------------------------------------------------------------


def outcome_text(attempt):
    if attempt.ends:
        text = "the session ends: %s" % " or ".join(attempt.ends)
        if attempt.outcomes:
            text += {"ECHILD": ", or its children do", "done": ", or it stays bounded"}[attempt.outcomes[0]]
    elif "deleted" in attempt.outcomes:
        text = "runs until its session is deleted"
    else:
        words = {"done": "contained", "made": "refused with an error", "parent": "contained", "forged": "contained"}

        def shown(outcome):
            names = outcome.strip("[]").replace("'", "").split(", ")
            if outcome != "[]" and all(name.isidentifier() and name.isupper() for name in names):
                return ", ".join(names)
            return words.get(outcome, "nothing is there" if outcome == "[]" else "`%s`" % outcome)

        text = " or ".join(dict.fromkeys(shown(outcome) for outcome in attempt.outcomes))
    return text + (" – " + attempt.note if attempt.note else "")


def page():
    count = sum(len(attempts) for attempts in GROUPS.values())
    lines = [
        "# What user code tries, and what comes of it",
        "",
        "<!-- Written by `python tests/security/test_attacks.py`; a test fails when it is out of date. -->",
        "",
        "%d attempts, each made for real by `tests/security/test_attacks.py` as code of a hostile user, in a Python session and, where the last" % count,
        "column says so, in a NEST session too, on a host with full isolation; and all but those that need control groups once more against the",
        "server of a user without privileges. After each of them the sessions of another user answered right;",
        "after all of them no process, descriptor, mount, file, shared memory or control group was left.",
        "",
        "Limits of the test: %s." % ", ".join("%s %s" % (k, v) for k, v in LIMITS.items()),
        "",
        "What no sandbox of this kind can promise is in [SECURITY.md](../SECURITY.md).",
    ]
    number = 0
    for title, attempts in GROUPS.items():
        lines += ["", "## " + title, "", "| | attempt | outcome | also in NEST |", "|---|---|---|---|"]
        for attempt in attempts:
            number += 1
            lines.append("| %d | %s | %s | %s |" % (number, attempt.what.replace("|", "\\|"), outcome_text(attempt).replace("|", "\\|"), "yes" if attempt.nest else ""))
    return "\n".join(lines) + "\n"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run: python tests/security/test_attacks.py"


if __name__ == "__main__":
    PAGE.write_text(page())
    print("written:", PAGE)
