"""What a script prints: kept for the answer up to a bound, and passed on to fd 1 without ever blocking.

The copy on fd 1 is for the server's ring, which shows the last lines of a session that died. It's written at once while that
is cheap; beyond a rate only the newest 64 KiB are kept and written when there is room.
"""

import io
import os
import select
import time

KEEP_BYTES = 64 << 20
RATE_BYTES = 1 << 20  # per second, to fd 1
RATE_WRITES = 2000  # per second, written at once
PENDING_BYTES = 64 << 10
CHUNK = 4096  # PIPE_BUF: a pipe that polls as writable takes so much without blocking
SKIPPED = b"\n[output skipped]\n"


class Tee:
    """Writes to a file descriptor, never blocks, keeps the newest text when there is too much."""

    def __init__(self, fd, rate=RATE_BYTES):
        self.fd = fd
        self.rate = rate
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._second = 0.0
        self._bytes = 0
        self._writes = 0

    def write(self, data):
        pending = self._pending
        pending += data
        if len(pending) > PENDING_BYTES + CHUNK:
            self.push()
            if len(pending) > PENDING_BYTES + CHUNK:
                del pending[: len(pending) - PENDING_BYTES + len(SKIPPED)]
                pending[:0] = SKIPPED
            return
        self._renew()
        if self._writes < RATE_WRITES or len(pending) >= CHUNK:
            self.push()

    def push(self, all_of_it=False):
        """Writes what's pending as far as budget and room go; `all_of_it`: whatever the budget says."""
        pending = self._pending
        if not pending:
            return
        self._renew()
        while pending and (all_of_it or self._bytes < self.rate):
            try:
                ready = self._poll.poll(0)
                if not ready or not ready[0][1] & select.POLLOUT:
                    return
                n = os.write(self.fd, pending[:CHUNK])
            except OSError:
                del pending[:]
                return
            del pending[:n]
            self._bytes += n
            self._writes += 1

    def _renew(self):
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._bytes, self._writes = now, 0, 0


class _Binary(io.RawIOBase):
    def __init__(self, text):
        self._text = text

    def writable(self):
        return True

    def write(self, data):
        data = bytes(data)
        self._text.write(data.decode("utf-8", "replace"))
        return len(data)


class Capture(io.TextIOBase):
    """sys.stdout of a session."""

    encoding = "utf-8"
    errors = "surrogateescape"
    name = "<stdout>"
    mode = "w"

    def __init__(self, tee, limit=KEEP_BYTES):
        super().__init__()
        self._tee = tee
        self.limit = limit
        self._parts = []
        self._size = 0
        self._lost = 0
        self._binary = _Binary(self)

    @property
    def buffer(self):
        return self._binary

    def writable(self):
        return True

    def fileno(self):
        return self._tee.fd

    def isatty(self):
        return False

    def flush(self):
        pass

    def close(self):
        pass

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        n = len(text)
        room = self.limit - self._size
        if n <= room:
            self._parts.append(text)
            self._size += n
        else:
            if room > 0:
                self._parts.append(text[:room])
                self._size = self.limit
                n -= room
            self._lost += n
        self._tee.write(text.encode("utf-8", "replace"))
        return len(text)

    def take(self):
        """What was written since the last call of this, and nothing is kept."""
        if not self._parts:
            return ""
        text = "".join(self._parts)
        if self._lost:
            text += f"\n[{self._lost} more characters were printed and are not shown]\n"
        self._parts = []
        self._size = self._lost = 0
        return text
