"""Frames of the session channel (section 4 of worker-protocol.md).

`Channel` owns one stream socket. `receive` blocks for the next frame; `poll` reads what is there without blocking and is
safe to call from the SIGINT handler while a call runs, because then nothing else reads.
"""

import array
import os
import select
import socket
import struct
import time

HELLO, GO, CALL, RESULT, ERROR, PROGRESS, INTERRUPT, STATE, BYE, BRANCH, BRANCHED, FOLLOW, DATA = range(1, 14)
NAMES = {
    HELLO: "hello",
    GO: "go",
    CALL: "call",
    RESULT: "result",
    ERROR: "error",
    PROGRESS: "progress",
    INTERRUPT: "interrupt",
    STATE: "state",
    BYE: "bye",
    BRANCH: "branch",
    BRANCHED: "branched",
    FOLLOW: "follow",
    DATA: "data",
}
FLAG_FD = 1

HEADER = struct.Struct("<IHHQ")
MAX_FROM_WORKER = 1 << 20
MAX_FROM_SERVER = 65 << 20

FROM_SERVER = frozenset((GO, CALL, INTERRUPT, BYE, BRANCH, FOLLOW))
FROM_WORKER = frozenset((HELLO, RESULT, ERROR, PROGRESS, STATE, BRANCHED, DATA))


class ProtocolError(Exception):
    """The peer broke the protocol; the session ends."""


class Closed(Exception):
    """The peer closed the channel."""


def frame(kind, body=b"", call=0, flags=0):
    """The bytes of one frame."""
    return HEADER.pack(len(body), kind, flags, call) + body


def check(length, kind, flags, kinds, limit):
    """Raises ProtocolError unless a header is allowed in this direction."""
    if kind not in NAMES:
        raise ProtocolError(f"unknown kind {kind}")
    if kind not in kinds:
        raise ProtocolError(f"{NAMES[kind]} in the wrong direction")
    if length > limit:
        raise ProtocolError(f"body of {length} bytes is over {limit}")
    if flags & ~FLAG_FD:
        raise ProtocolError(f"unknown flags {flags}")


def parse(data, kinds=FROM_SERVER | FROM_WORKER, limit=None):
    """(length, kind, flags, call, body) of exactly one frame; raises ProtocolError."""
    if len(data) < HEADER.size:
        raise ProtocolError("short header")
    length, kind, flags, call = HEADER.unpack_from(data)
    if limit is None:
        limit = MAX_FROM_WORKER if kind in FROM_WORKER else MAX_FROM_SERVER
    check(length, kind, flags, kinds, limit)
    if len(data) < HEADER.size + length:
        raise ProtocolError("short body")
    if len(data) > HEADER.size + length:
        raise ProtocolError("bytes after the body")
    return length, kind, flags, call, bytes(data[HEADER.size :])


def split_call(body):
    """(meta, request body) of a call frame, both as slices of `body`."""
    if len(body) < 4:
        raise ProtocolError("call without a meta length")
    end = 4 + int.from_bytes(body[:4], "little")
    if end > len(body):
        raise ProtocolError("meta is longer than the call")
    return body[4:end], body[end:]


CANCEL = b'{"cancel":true}'  # body of a frame that takes a request back
LOOK_S = 400e-6  # how long a worker looks for its next call before it sleeps: an interpreted client needs 100 to 200 us in between
SLOW_YIELD_S = 1e-3  # a yield that takes longer gave the CPU to somebody who keeps it
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 2.0


class Channel:
    """The worker's end. Not thread-safe; one owner."""

    SIZE = 1 << 16

    def __init__(self, sock):
        self.sock = sock
        self._buffer = bytearray(self.SIZE)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._queue = []
        self._look_again = 0.0
        self._pause = SHORTEST_PAUSE_S

    def receive(self):
        """Blocks for the next frame: (kind, call, body as bytes). Raises Closed at end of file, ProtocolError."""
        if self._queue:
            return self._queue.pop(0)
        view = self._view
        while True:
            have = self._end - self._start
            if have >= 16:
                start = self._start
                length, kind, flags, call = HEADER.unpack_from(self._buffer, start)
                check(length, kind, flags, FROM_SERVER, MAX_FROM_SERVER)
                if have >= 16 + length:
                    body = bytes(view[start + 16 : start + 16 + length])
                    self._advance(16 + length)
                    return kind, call, body
                if 16 + length > self.SIZE:
                    return kind, call, self._large(length)
            if self._start and self._end == self.SIZE:
                self._compact()
            n = self._soon(view[self._end :])
            if n == 0:
                raise Closed()
            self._end += n

    def _soon(self, view):
        """recv_into, that looks a little while before it sleeps: after a call the next one often follows at once, and being
        woken on another CPU costs more than the call. It yields meanwhile; where that makes it wait for others, it stops
        looking for a while, and for twice as long each time that happens again."""
        recv_into, clock = self.sock.recv_into, time.perf_counter
        now = clock()
        if now < self._look_again:
            return recv_into(view)
        end = now + LOOK_S
        while True:
            try:
                return recv_into(view, 0, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                if now >= end:
                    return recv_into(view)
            os.sched_yield()
            before, now = now, clock()
            if now - before > SLOW_YIELD_S:
                self._look_again = now + self._pause
                self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
                end = now
            else:
                self._pause = max(self._pause / 2, SHORTEST_PAUSE_S)

    def poll(self):
        """Reads frames that are there, without blocking; they are queued. Returns the queue (a list) to look at."""
        while True:
            if self._start and self._end == self.SIZE:
                self._compact()
            if self._end < self.SIZE:
                try:
                    n = self.sock.recv_into(self._view[self._end :], 0, socket.MSG_DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    n = -1
                if n > 0:
                    self._end += n
            else:
                n = -1
            self._take()
            if n <= 0:
                return self._queue

    def receive_fds(self, kind, timeout_s):
        """Waits for a frame of that kind that brings descriptors: (body, [fd, …]), or takes them back (CANCEL, []). Other frames that come are queued. Only here are
        descriptors taken: reading for them costs each call 4 us. Raises Closed, ProtocolError, TimeoutError."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        end = time.monotonic() + timeout_s
        fds = []
        try:
            while True:
                for position, item in enumerate(self._queue):
                    if item[0] == kind and (fds or item[2] == CANCEL):
                        del self._queue[position]
                        taken, fds = fds, []
                        return item[2], taken
                left = end - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    raise TimeoutError("the descriptors did not arrive")
                if self._start and self._end == self.SIZE:
                    self._compact()
                n, ancillary, _, _ = self.sock.recvmsg_into(
                    [self._view[self._end :]], socket.CMSG_SPACE(16), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
                for level, what, data in ancillary:
                    if level == socket.SOL_SOCKET and what == socket.SCM_RIGHTS:
                        got = array.array("i")
                        got.frombytes(data[: len(data) - len(data) % got.itemsize])
                        fds.extend(got)
                if n == 0:
                    raise Closed()
                self._end += n
                self._take()
        finally:
            for fd in fds:
                os.close(fd)

    def _take(self):
        """Queues the whole frames of the buffer."""
        while self._end - self._start >= 16:
            length, kind, flags, call = HEADER.unpack_from(self._buffer, self._start)
            if self._end - self._start < 16 + length:
                break
            check(length, kind, flags, FROM_SERVER, MAX_FROM_SERVER)
            body = bytes(self._view[self._start + 16 : self._start + 16 + length])
            self._advance(16 + length)
            self._queue.append((kind, call, body))

    def _advance(self, n):
        self._start += n
        if self._start == self._end:
            self._start = self._end = 0

    def _compact(self):
        rest = bytes(self._view[self._start : self._end])
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def _large(self, length):
        body = bytearray(length)
        have = self._end - self._start - 16
        body[:have] = self._view[self._start + 16 : self._end]
        self._start = self._end = 0
        with memoryview(body) as view:
            while have < length:
                n = self.sock.recv_into(view[have:])
                if n == 0:
                    raise Closed()
                have += n
        return bytes(body)

    def send(self, kind, body=b"", call=0):
        self.sock.sendall(HEADER.pack(len(body), kind, 0, call) + body)

    def send_bytes(self, data, fd=None):
        """Sends ready frames; `fd`, if given, travels with the first byte of `data`, which starts the frame it belongs to."""
        if fd is None:
            self.sock.sendall(data)
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sent = self.sock.sendmsg([data], rights)
        if sent < len(data):
            self.sock.sendall(memoryview(data)[sent:])
