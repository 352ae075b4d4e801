"""``%%myelin``: runs a notebook's cell in a session. Loaded by ``%load_ext myelin``."""

import argparse
import shlex
import sys
import threading

from .errors import CallFailedError, MyelinError
from .native import Client

_WIDTH = 20
_JOIN_S = 2.0  # how long the last output may take after the call has ended

_sessions = {}  # (url, name) -> Session, for the life of the notebook's kernel


class CellFailed(Exception):
    """The cell raised in its session. Shown as its own lines, without the client's frames."""

    def __init__(self, lines):
        super().__init__(lines[-1])
        self.lines = lines

    def _render_traceback_(self):  # IPython asks for it
        return list(self.lines)


class _Usage(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Usage("%s\n%s" % (message, self.format_usage()))

    def exit(self, status=0, message=None):
        raise _Usage(message or self.format_help())


def _parser():
    parser = _Parser(prog="%%myelin", description="Runs the cell in a session of a Myelin server; its variables stay there from cell to cell.")
    parser.add_argument("session", nargs="?", default="nest", help="an engine (nest), or the name of a session")
    parser.add_argument("-o", "--output", default="", metavar="NAME,NAME", help="variables to bring into the notebook")
    parser.add_argument("--keep", action="store_true", help="keep what -o names as a run")
    parser.add_argument("--fresh", action="store_true", help="forget the session's variables first")
    parser.add_argument("--engine", default="nest", help="of a session with a name that is not there yet")
    parser.add_argument("--url", help="the server (MYELIN_URL, else http://127.0.0.1:52425)")
    return parser


def load(shell):
    if shell is None or not hasattr(shell, "register_magic_function"):
        raise ImportError("%load_ext myelin works in IPython and Jupyter only: pip install notebook; elsewhere use myelin.Client()")
    shell.register_magic_function(lambda line, cell: run_cell(shell, line, cell), "cell", "myelin")


def unload(shell):
    shell.magics_manager.magics.get("cell", {}).pop("myelin", None)
    _sessions.clear()


def run_cell(shell, line, cell):
    try:
        options = _parser().parse_args(shlex.split(line))
    except (_Usage, ValueError) as error:
        raise CellFailed(str(error).rstrip().splitlines()) from None
    names = [name.strip() for name in options.output.split(",") if name.strip()]
    try:
        session = _session(options)
        result = _run(session, cell, names, options)
    except CallFailedError as error:
        raise CellFailed(_described(error, cell)) from None
    except MyelinError as error:
        if error.code in ("gone", "worker_lost"):
            _sessions.pop((options.url, options.session), None)  # the next cell starts a new one
        raise CellFailed(["myelin: %s" % error.detail]) from None
    if names:
        shell.push({name: result.data.get(name) for name in names})
    if result.run:
        print("kept as run %s" % result.run.id)


def _session(options):
    key = (options.url, options.session)
    session = _sessions.get(key)
    if session is None:
        client = Client(options.url)
        engines = client.health()["engines"]
        if options.session in engines:
            session = client.session(options.session)
        else:
            session = client.session(options.engine, options.session)
        _sessions[key] = session
    return session


def _run(session, cell, names, options):
    watcher = _Watcher(session)
    try:
        # A cell with -o gives an object even for one name.
        result = session.exec(cell, returns=names or None, keep=options.keep, fresh=options.fresh)
    except MyelinError as error:
        watcher.end(error.stdout)
        raise
    except BaseException:
        watcher.end("")
        raise
    watcher.end(result.stdout)
    return result


def _described(error, cell):
    """The error as lines, numbered as in the cell, whose first line is %%myelin."""
    lines, source = [], cell.splitlines()
    for frame in error.traceback:
        number, _, rest = str(frame).partition(",")
        if number.startswith("line ") and number[5:].isdigit():
            frame = "line %d,%s" % (int(number[5:]) + 1, rest)
        lines.append("  " + str(frame))
    if error.line and not lines:
        text = source[error.line - 1].strip() if error.line <= len(source) else ""
        lines.append("  line %d%s" % (error.line + 1, ": " + text if text else ""))
    what = error.class_name or error.code
    return [*lines, "%s: %s" % (what, error.text) if error.text else error.detail if not error.class_name else what]


class _Watcher:
    """Shows what a call prints and how far it is, while it runs. Without streams the output comes at the end."""

    def __init__(self, session):
        self._seen, self._line, self._ended = [], False, False
        self._lock, self._began, self._idle = threading.Lock(), threading.Event(), threading.Event()
        self._stream = session.stream(["stdout", "progress", "state"])
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        self._began.wait(_JOIN_S)  # output before the first event would not be shown as it comes

    def _follow(self):
        try:
            for event in self._stream:
                topic = event.get("topic")
                with self._lock:
                    if self._ended:
                        return
                    if topic == "stdout" and self._began.is_set():
                        self._seen.append(event["text"])
                        self._clear()
                        sys.stdout.write(event["text"])
                        sys.stdout.flush()
                    elif topic == "progress" and event.get("done") is not None:
                        self._draw(event)
                    elif topic == "state" and self._began.is_set() and event.get("state") == "idle":
                        self._idle.set()
                self._began.set()
        except MyelinError:
            pass  # no streams here, or the session is gone: the call itself says so
        finally:
            self._began.set()
            self._idle.set()

    def _draw(self, event):
        done = max(0.0, min(1.0, event["done"]))
        full = int(done * _WIDTH)
        text = "█" * full + "░" * (_WIDTH - full) + " %3d %%" % (done * 100)
        if event.get("of_ms"):
            text += "  %.0f of %.0f ms" % (event.get("time_ms") or 0, event["of_ms"])
        sys.stderr.write("\r" + text)
        sys.stderr.flush()
        self._line = True

    def _clear(self):
        if self._line:
            sys.stderr.write("\r" + " " * 60 + "\r")
            sys.stderr.flush()
            self._line = False

    def end(self, stdout):
        """The call has ended and printed ``stdout`` in all: shows what the stream has not."""
        self._idle.wait(_JOIN_S)
        with self._lock:
            self._ended = True
            self._clear()
            seen = "".join(self._seen)
        self._stream.close()
        if stdout.startswith(seen):
            rest = stdout[len(seen):]
        else:  # the answer has only the end of a long output
            tail = stdout[-1000:]
            rest = "" if tail in seen else stdout
        sys.stdout.write(rest)
        sys.stdout.flush()
