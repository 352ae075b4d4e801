"""Branches: copies of a running session, made by one clone() (section 6 of worker-protocol.md).

A branch is a child of the session's own parent, so that it outlives the session. It shares the sandbox, and has a working
directory of its own: a copy of the session's, with the files that were open reopened at the same place. What can't be copied
(threads, children, sockets, pipes, writable shared memory) is named, and the branch refused.
"""

import ctypes
import errno
import fcntl
import os
import random
import shutil
import stat
import time

from . import imports

_THREADS_S = 0.2  # how long paused threads may take to go
_KEPT = 4  # fds 0 … 3 are the session's own
_FOLDER = ".branches"


class Refused(Exception):
    """Why there is no branch; the session goes on."""


def _children():
    """Names of living child processes."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                pids = file.read().split()
        except OSError:
            continue
        for pid in pids:
            try:
                with open(f"/proc/{pid}/stat") as file:
                    text = file.read()
            except OSError:
                continue
            if text[text.rindex(")") + 2] != "Z":
                found.append(f"{text[text.index('(') + 1 : text.rindex(')')]} ({pid})")
    return found


def _descriptors():
    """(files, obstacles): regular files as (fd, path, flags, offset), and texts of what can't be shared."""
    files, obstacles = [], []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd < _KEPT:
            continue
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
            mode = os.fstat(fd).st_mode
            with open(f"/proc/self/fdinfo/{name}") as info:
                facts = dict(line.split(":", 1) for line in info if ":" in line)
        except OSError:
            continue  # the directory that was just read
        if stat.S_ISREG(mode):
            files.append((fd, path, int(facts["flags"], 8), int(facts["pos"])))
        elif stat.S_ISDIR(mode) or stat.S_ISCHR(mode):
            continue
        else:
            what = "a socket" if stat.S_ISSOCK(mode) else "a pipe" if stat.S_ISFIFO(mode) else path
            obstacles.append(f"{what} (fd {fd})")
    return files, obstacles


def _shared_memory():
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line[line.index(" ") + 1 :].startswith("rw-s"):
                found.append(line.split(None, 5)[5].strip() if line.count(" ") > 4 else "without a name")
    return sorted(set(found))


def _copy(source, target, skip):
    """The files of `source` below `target`, which exists. `skip`: directories (paths) that are not copied."""
    for entry in os.scandir(source):
        to = os.path.join(target, entry.name)
        if entry.path in skip:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), to)
        elif entry.is_dir():
            os.mkdir(to)
            _copy(entry.path, to, skip)
        elif entry.is_file():
            shutil.copy2(entry.path, to)


class Places:
    """Where branches of a sandbox keep their files. A directory is locked as long as its branch lives; others are removed."""

    def __init__(self, home):
        self.first = home  # of the session that the sandbox was made for
        self.home = home
        self._lock = -1

    def make(self, name):
        """A copy of the working directory: its path."""
        folder = os.path.join(self.first, _FOLDER)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._clear(folder)
        place = os.path.join(folder, name)
        os.mkdir(place, 0o700)
        work = os.path.join(self.first, "work")
        try:
            _copy(self.home, place, {folder, work, os.path.join(self.home, "work")})
            if os.path.isdir(work):
                os.symlink(work, os.path.join(place, "work"))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return place

    def _clear(self, folder):
        for entry in os.scandir(folder):
            if entry.path == self.home:
                continue
            try:
                fd = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its branch lives
            finally:
                os.close(fd)
            shutil.rmtree(entry.path, ignore_errors=True)

    def lock(self, place):
        """In the parent, before the clone: the directory is nobody's for no moment. Returns the lock's descriptor."""
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def move(self, place, lock):
        """In the branch."""
        if self._lock >= 0:
            os.close(self._lock)  # the session's; it is locked on as long as the session has it open
        self._lock = lock
        self.home = place


def _reopen(files, copies):
    for fd, _, flags, offset in files:
        flags &= ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)
        path = copies.get(fd) or f"/proc/self/fd/{fd}"
        inherited = os.get_inheritable(fd)
        new = os.open(path, flags | os.O_CLOEXEC)
        os.lseek(new, offset, os.SEEK_SET)
        os.dup2(new, fd, inherited)
        os.close(new)


def _copy_written(files, home, place):
    """Files open for writing get a copy in the branch's directory: {fd: path}."""
    copies = {}
    for fd, path, flags, _ in files:
        if flags & os.O_ACCMODE == os.O_RDONLY or path.startswith("/memfd:"):
            continue
        inside = os.path.relpath(path, home) if path.startswith(home + "/") else None
        copy = os.path.realpath(os.path.join(place, inside)) if inside else ""
        if copy.startswith(place + "/") and os.path.exists(copy):  # copied with the directory; ~/work is not
            copies[fd] = copy
            continue
        name = os.path.basename(path).removesuffix(" (deleted)")
        copy, number = os.path.join(place, name), 1
        while os.path.lexists(copy):
            number += 1
            copy = os.path.join(place, f"{number}-{name}")
        try:
            with open(f"/proc/self/fd/{fd}", "rb") as source, open(copy, "xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except PermissionError:
            raise Refused(f"{path} is open for writing and can't be read for a copy") from None
        copies[fd] = copy
    return copies


def prepare(session):
    """Everything that can be refused, before the descriptors are asked for. Raises Refused."""
    if session.library is None:
        raise Refused("branches need the library that enters the sandbox, which this server was built without")
    reason = session.engine.branch_obstacle()
    if reason:
        raise Refused(reason)
    session.engine.before_branch()
    end = time.monotonic() + _THREADS_S
    while imports.thread_count() > 1:
        if time.monotonic() > end:
            raise Refused(f"the session runs {imports.thread_count() - 1} threads that can't be paused: end them, or branch before they start")
        time.sleep(0.0005)
    children = _children()
    if children:
        raise Refused(f"the session has child processes: {', '.join(children)}; end them first")
    files, obstacles = _descriptors()
    obstacles += [f"writable shared memory ({name})" for name in _shared_memory()]
    if obstacles:
        raise Refused(f"the session has {', '.join(obstacles)} open, which two can't share: close them first")
    return [file for file in files if not file[1].startswith("/memfd:")]


def fork(session, files, channel, output, name):
    """The clone itself. True in the branch, whose descriptors, directory and random state are its own then; False in the session.
    Raises Refused."""
    places = session.places
    try:
        place = places.make(name)
    except OSError as error:
        raise Refused(f"the branch's directory can't be made: {error.strerror}") from None
    try:
        copies = _copy_written(files, places.home, place)
        lock = places.lock(place)
    except (Refused, OSError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise Refused(str(error)) from None
    cwd = os.getcwd()
    state = random.getstate()  # `random` reseeds itself in every fork
    api = ctypes.pythonapi
    session.tee.push(all_of_it=True)
    api.PyOS_BeforeFork()
    pid = session.library.myelin_branch(0 if session.namespaces else 1)
    if pid:
        api.PyOS_AfterFork_Parent()
        os.close(lock)
        if pid < 0:
            shutil.rmtree(place, ignore_errors=True)
            raise Refused("no process for it: " + ("the limit of processes is reached" if -pid == errno.EAGAIN else os.strerror(-pid)))
        return False
    api.PyOS_AfterFork_Child()
    os.dup2(channel, 3, False)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(channel)
    os.close(output)
    random.setstate(state)
    home = places.home
    _reopen(files, copies)
    places.move(place, lock)
    os.environ["HOME"] = place
    if cwd == home or cwd.startswith(home + "/") and not cwd.startswith(os.path.join(home, "work")):
        cwd = place + cwd[len(home) :]
    try:
        os.chdir(cwd)
    except OSError:
        os.chdir(place)
    os.environ["PWD"] = os.getcwd()
    return True
