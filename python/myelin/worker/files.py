"""Files of the session's working directory, for the native API. It runs inside the sandbox: the kernel bounds what it can reach."""

import os
import stat
import time

from . import rope

MOST_BYTES = 1 << 30
MOST_ENTRIES = 100_000


def do(operation, path, body):
    """`get` (bytes of a file, or a directory's entries), `put`, `mkdir`, `delete`."""
    return {"get": _get, "put": _put, "mkdir": _mkdir, "delete": _delete}[operation](_checked(path), bytes(body))


def _checked(path):
    path = path.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise ValueError("a path is names with slashes between them, without . and ..")
    return path or "."


def _get(path, _):
    info = os.stat(path)
    if stat.S_ISDIR(info.st_mode):
        return {"path": "" if path == "." else path, "entries": _entries(path)}
    if not stat.S_ISREG(info.st_mode):
        raise PermissionError(f"{path} is no regular file")
    if info.st_size > MOST_BYTES:
        raise ValueError(f"{path} has {info.st_size} bytes, more than {MOST_BYTES}: put it into ~/work and read it there")
    with open(path, "rb") as file:
        return {"bytes": rope.Octets(file.read())}


def _entries(path):
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
    out = []
    for entry in os.scandir(path):
        info = entry.stat(follow_symlinks=False)
        if len(out) >= MOST_ENTRIES:
            raise ValueError(f"the directory has more than {MOST_ENTRIES} entries")
        if entry.name == ".branches":
            continue
        kind = next((name for test, name in kinds if test(info.st_mode)), "other")
        at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(info.st_mtime))
        size = info.st_size if kind == "file" else 0
        out.append({"name": entry.name, "type": kind, "bytes": size, "modified_at": at})
    return sorted(out, key=lambda entry: entry["name"])


def _put(path, body):
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a directory")
    above = os.path.dirname(path)
    if above:
        os.makedirs(above, exist_ok=True)
    part = f"{path}.part-{os.getpid()}"
    try:
        with open(part, "wb") as file:
            file.write(body)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
    return None


def _mkdir(path, _):
    os.makedirs(path, exist_ok=True)
    return None


def _delete(path, _):
    if path == ".":
        raise PermissionError("the working directory stays")
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)
    return None
