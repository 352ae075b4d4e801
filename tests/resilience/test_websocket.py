"""Ten thousand WebSockets that nobody uses: what they cost, and that each still answers.

Against the HTTP layer alone (build/http_demo), and against a session's stream of the whole server. The frames are
written by hand: the client must be cheaper than what it measures.
"""

import os
import resource
import select
import socket
import struct
import subprocess
import time

import pytest

from conftest import BINARY, PATIENCE_S

COUNT = int(os.environ.get("MYELIN_IDLE_SOCKETS", "10000"))
IDLE_S = float(os.environ.get("MYELIN_IDLE_S", "60"))
MOST_MB = 256
PING = b"\x89\x84\0\0\0\0idle"  # masked with zeros
PONG = b"\x8a\x04idle"


def handshake(path, headers=""):
    return ("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n" % (path, headers)).encode()


class Idle:
    """One socket of many: answers pings, notices pongs, drops messages."""

    def __init__(self, address, request):
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(4096)
            if not more:
                break
            data += more
        self.head, _, self.input = data.partition(b"\r\n\r\n")
        self.status = int(self.head.split(None, 2)[1]) if self.head else None
        self.pongs = self.pings = 0
        self.ended = False
        self.socket.setblocking(False)
        self.parse()

    def on_readable(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.ended = self.ended or not data
        self.input += data
        self.parse()

    def parse(self):
        while len(self.input) >= 2:
            opcode, size, at = self.input[0] & 15, self.input[1] & 127, 2
            if size >= 126:
                at = 4 if size == 126 else 10
                if len(self.input) < at:
                    return
                size = struct.unpack(">H" if at == 4 else ">Q", self.input[2:at])[0]
            if len(self.input) < at + size:
                return
            payload, self.input = self.input[at:at + size], self.input[at + size:]
            if opcode == 9:
                self.pings += 1
                self.socket.sendall(bytes([0x8a, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            self.pongs += opcode == 10
            self.ended = self.ended or opcode == 8


class Crowd:
    def __init__(self, address, request, count):
        self.poll = select.epoll()
        self.sockets = {}
        for _ in range(count):
            one = Idle(address, request)
            assert one.status == 101, one.head
            self.sockets[one.socket.fileno()] = one
            self.poll.register(one.socket.fileno(), select.EPOLLIN)

    def serve(self, seconds, until=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            for fd, _ in self.poll.poll(0.2, 1000):
                one = self.sockets[fd]
                one.on_readable()
                if one.ended:
                    self.poll.unregister(fd)

    def ended(self):
        return sum(one.ended for one in self.sockets.values())

    def close(self):
        self.poll.close()
        for one in self.sockets.values():
            one.socket.close()


def memory_mb(pid):
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def cpu_s(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def files():
    """This process needs a descriptor for each socket, and the server inherits the limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < COUNT + 1000:
        pytest.skip("only %d descriptors are allowed here" % before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def check(pid, address, request, request_of_others):
    before = memory_mb(pid)
    crowd = Crowd(address, request, COUNT)
    try:
        crowd.serve(2)
        start, used = time.monotonic(), cpu_s(pid)
        crowd.serve(IDLE_S)
        used, passed = cpu_s(pid) - used, time.monotonic() - start
        memory = memory_mb(pid)
        pinged = sum(one.pings > 0 for one in crowd.sockets.values())
        print("%d idle WebSockets: server %.0f MB (%.0f before), %.2f %% cpu over %.0f s, %d were pinged"
              % (COUNT, memory, before, 100 * used / passed, passed, pinged))
        assert crowd.ended() == 0
        assert memory <= MOST_MB
        if IDLE_S > 50:
            assert pinged == COUNT
        # Others are served meanwhile, and each of them still answers.
        with socket.create_connection(address, timeout=PATIENCE_S) as other:
            other.sendall(request_of_others)
            assert other.recv(100).startswith(b"HTTP/1.1 200 ")
        for one in crowd.sockets.values():
            one.socket.sendall(PING)
        crowd.serve(PATIENCE_S, lambda: all(one.pongs for one in crowd.sockets.values()))
        assert sum(one.pongs == 1 for one in crowd.sockets.values()) == COUNT
    finally:
        crowd.close()


def test_idle_sockets_of_the_http_layer(files):
    demo = BINARY.parent / "http_demo"
    if not demo.exists():
        pytest.skip("%s is not built" % demo)
    server = subprocess.Popen([str(demo)], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        check(server.pid, ("127.0.0.1", port), handshake("/echo"), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def test_idle_sockets_of_a_session(files, make_server):
    """The whole server: everybody listens to one session that says nothing."""
    server = make_server()
    answer = server.client().post("/v1/sessions", {"engine": "python"})
    assert answer.status == 201, answer
    token = "NESTServerAuth: %s\r\n" % server.token
    request = handshake("/v1/sessions/%s/stream?topics=state" % answer.json()["id"], token)
    if Idle(server.address, request).status == 404:
        pytest.skip("this server has no streams")
    others = "GET /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n" % token
    check(server.process.pid, server.address, request, others.encode())
