"""The shape of the sources: who may include whom, and what must not be in any file."""

import ast
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A room may include itself, base, and these (and what these may include).
RULE = {
    "base": set(),
    "async": {"base"}, "os": {"base"}, "codec": {"base"}, "cell": {"base"},
    "store": {"async", "os", "codec"},
    "run": {"store"},
    "worker": {"async", "os", "codec"},
    "accounts": {"store"},
    "session": {"worker", "accounts", "store", "run"},
    "function": {"session", "cell"},
    "live": {"session"},
    "http": {"async", "os", "codec"},
    "api": {"http", "live", "function", "session", "run", "accounts", "store", "worker", "cell"},
    "cli": {"api"},
}
# Libraries that are seen in these rooms only.
LIBRARIES = [
    (r"boost/asio", {"async", "http", "worker", "session", "os"}),
    (r"boost/beast", {"http", "worker"}),
    (r"sqlite3\.h", {"store"}),
    (r"seccomp\.h", {"os"}),
    (r"curl/", {"cli", "http"}),
    (r"cairo", {"cell"}),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def reachable(room):
    found, queue = {room}, [room]
    while queue:
        for other in RULE[queue.pop()]:
            if other not in found:
                found.add(other)
                queue.append(other)
    return found


def sources():
    return [p for p in sorted((ROOT / "src").rglob("*")) if p.suffix in (".hpp", ".cpp", ".h", ".c")]


def test_rooms_depend_in_one_direction():
    wrong = []
    for path in sources():
        parts = path.relative_to(ROOT / "src").parts
        if len(parts) == 1:
            continue  # main.cpp: the table of contents
        room = parts[0]
        assert room in RULE, "%s: a room that the rule does not know" % path
        for mark, target in INCLUDE.findall(path.read_text()):
            other = target.partition("/")[0]
            if mark == '"' and other in RULE and "/" in target and other not in reachable(room):
                wrong.append("%s includes %s" % (path.relative_to(ROOT), target))
    assert not wrong, "\n".join(wrong)


def test_own_headers_are_included_by_room():
    wrong = []
    for path in sources():
        for mark, target in INCLUDE.findall(path.read_text()):
            if mark == '"' and "/" not in target and not (path.parent / target).exists():
                wrong.append("%s includes %s" % (path.relative_to(ROOT), target))
            if target.startswith(".."):
                wrong.append("%s includes %s" % (path.relative_to(ROOT), target))
    assert not wrong, "\n".join(wrong)


def test_there_is_no_cycle_in_the_rule():
    for room in RULE:
        for other in reachable(room) - {room}:
            assert room not in reachable(other), (room, other)


@pytest.mark.parametrize("library,rooms", LIBRARIES, ids=[name for name, _ in LIBRARIES])
def test_libraries_stay_in_their_rooms(library, rooms):
    wrong = []
    for path in sources():
        parts = path.relative_to(ROOT / "src").parts
        if len(parts) > 1 and parts[0] not in rooms:
            wrong += ["%s includes %s" % (path.relative_to(ROOT), t) for _, t in INCLUDE.findall(path.read_text()) if re.match(library, t)]
    assert not wrong, "\n".join(wrong)


def test_headers_are_guarded():
    wrong = [str(p.relative_to(ROOT)) for p in sources() if p.suffix == ".hpp" and "#pragma once" not in p.read_text()]
    assert not wrong


def tracked():
    if shutil.which("git") and (ROOT / ".git").exists():
        done = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    skipped = {".git", "node_modules", "__pycache__", ".cache", ".myelin"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not any(
        part in skipped or part.startswith((".venv", "build")) for part in p.relative_to(ROOT).parts)]


# Written so that this file does not match itself.
FORBIDDEN = [
    (r"[T]ODO|[F]IXME|\b[X]XX\b", "an unfinished thought"),
    (r"(?<![~\w)+'])/w[o]rk/(?:main|shared|\.)|/root/\.|/home/(?!lab/)[a-z]+/[a-z]", "a path of somebody's machine"),
    (r"registry\.npmj[s]\.org|pypi\.or[g]/simple|\"reso[l]ved\"\s*:", "a package registry"),
    (r"<<<<<[<]<|>>>>>[>]>", "a conflict"),
]
# Recorded or foreign text, and the licence.
EXEMPT = {"LICENSE", "tests/data/nest-server-exchanges.jsonl"}


@pytest.mark.parametrize("pattern,what", FORBIDDEN, ids=[what for _, what in FORBIDDEN])
def test_no_file_holds(pattern, what):
    found = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if name in EXEMPT:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += ["%s: %s" % (name, match.group()) for match in re.finditer(pattern, text)]
    assert not found, "\n".join(found)


def test_scripts_are_executable():
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        if path.is_file():
            assert path.stat().st_mode & 0o111, path


def test_every_python_requirement_is_pinned():
    for path in (ROOT / "requirements").glob("*.txt"):
        if path.name.startswith("debian-"):
            continue
        for line in path.read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[^\s;]+", line), (path, line)


def test_what_runs_in_engines_is_python_3_9():
    # an engine's environment may have any interpreter from 3.9 on
    files = [path for folder in ("worker", "functions") for path in (ROOT / "python/myelin" / folder).rglob("*.py")]
    assert len(files) > 20
    for path in files:
        ast.parse(path.read_text(), str(path), feature_version=(3, 9))
