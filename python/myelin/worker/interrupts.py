"""SIGINT in a session.

A signal counts only together with an `interrupt` frame of the running call. Python code is interrupted by KeyboardInterrupt
from the handler; code that may only stop at certain points (a sliced simulation) defers: the handler sets `requested` and the
code looks at it. Between calls nothing is raised, so that a late signal can't hit the next call.
"""

import signal
import time

from .protocol import BRANCH, FOLLOW, INTERRUPT, ProtocolError

_AGAIN_S = 0.25  # a second interrupt of the same call is raised again only after this


class Interrupts:
    def __init__(self, channel):
        self.channel = channel
        self.running = 0  # id of the call that runs, 0: none
        self.armed = False  # KeyboardInterrupt may be raised
        self.deferred = 0  # nesting of code that looks at `requested` itself
        self.requested = False  # the running call is to stop
        self.raised = False  # ... and was told so by KeyboardInterrupt
        self.branches = []  # bodies of branch frames that arrived while a call runs
        self.branch = None  # takes them: True in the new branch
        self.follows = []  # bodies of follow frames, the same
        self.follow = None
        self.quiet = set()  # code objects (callbacks of engines) in which nothing may be raised
        self._signalled = False  # by a signal that could not be looked at just then
        self._reading = False  # the channel: nobody else may, not even the handler
        self._last = 0.0

    def install(self):
        signal.signal(signal.SIGINT, self._handle)
        signal.siginterrupt(signal.SIGINT, False)

    def begin(self, call):
        """A call starts. True if its interrupt has arrived already."""
        self.requested = self.raised = False
        self.deferred = 0
        self.running = call
        if self._signalled:
            self._look()
        return self.requested

    def end(self):
        self.armed = False
        self.running = 0

    def _look(self):
        """True if the running call is to stop. A signal that comes meanwhile is looked at before it returns."""
        found = False
        while True:
            self._reading, self._signalled = True, False
            try:
                found = self._take() or found
            finally:
                self._reading = False
            if not self._signalled:
                return found

    def _take(self):
        try:
            queue = self.channel.poll()
        except ProtocolError:  # the main loop meets it again at its next read
            return False
        if not queue:
            return False
        found = False
        keep = []
        for item in queue:
            if item[0] == INTERRUPT:
                found = found or (item[1] == self.running)
            elif item[0] == BRANCH:
                self.branches.append((item[1], item[2]))
            elif item[0] == FOLLOW:
                self.follows.append(item[2])
            else:
                keep.append(item)
        queue[:] = keep
        if found:
            self.requested = True
        return found

    def branch_now(self):
        """Makes the branches that were asked for, at a point where the state is whole. True in a branch: there the call is to
        stop as if interrupted."""
        while self.branches:
            self._reading = True
            try:
                branched = self.branch(*self.branches.pop(0))
            finally:
                self._reading = False
            if branched:
                self.branches, self.follows, self._signalled = [], [], False
                self.requested = True
                return True
            if self._signalled and self.running:
                self._look()
        return False

    def follow_now(self):
        while self.follows:
            self.follow(self.follows.pop(0))

    def is_quiet(self, frame):
        if self.quiet:
            while frame is not None:
                if frame.f_code in self.quiet:
                    return True
                frame = frame.f_back
        return False

    def _handle(self, number, frame):
        if not self.running or self._reading:
            self._signalled = True
            return
        found = self._look()
        if self.branches and self.armed and not self.deferred and not self.is_quiet(frame):
            before = self.requested
            found = self.branch_now() or found or (self.requested and not before)
        if found and self.armed and not self.deferred and not self.is_quiet(frame):
            now = time.monotonic()
            if not self.raised or now - self._last > _AGAIN_S:
                self.raised = True
                self._last = now
                raise KeyboardInterrupt("interrupted")
