"""Running a script: `exec` of every engine."""

import ast
import builtins
import importlib
import linecache
import sys
import traceback

NAME = "<script>"
_CACHE_BYTES = 64 << 10
_CACHE_SCRIPTS = 64
_codes = {}


def compile_script(source):
    code = _codes.get(source)
    if code is None:
        code = compile(source, NAME, "exec", 0, True)
        if len(source) <= _CACHE_BYTES:
            if len(_codes) >= _CACHE_SCRIPTS:
                del _codes[next(iter(_codes))]
            _codes[source] = code
    return code


def module_names(text):
    """Globals of a script by the `modules` option. Both forms: `nest,numpy` and `import nest; import numpy as np; from numpy import random`.

    Returns (names, problems): a dict and a list of texts. A module that can't be imported is left out.
    """
    names, problems = {}, []
    for statement in text.replace("\n", ";").split(";"):
        statement = statement.strip()
        if not statement:
            continue
        try:
            tree = ast.parse(statement)
            if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body):
                exec(compile(tree, "<modules>", "exec"), names)
                continue
        except SyntaxError as error:
            problems.append(f"{statement}: {error.msg}")
            continue
        except Exception as error:
            problems.append(f"{statement}: {type(error).__name__}: {error}")
            continue
        for name in statement.split(","):
            name = name.strip()
            if not name:
                continue
            try:
                importlib.import_module(name)
                top = name.partition(".")[0]
                names[top] = sys.modules[top]
            except Exception as error:
                problems.append(f"{name}: {type(error).__name__}: {error}")
    names.pop("__builtins__", None)
    return names, problems


def fresh_globals(names):
    space = {"__name__": "__main__", "__builtins__": builtins}
    space.update(names)
    return space


def run(source, space):
    """Runs a script in the globals `space`."""
    if not isinstance(source, str):
        raise TypeError(f"source must be text, not {type(source).__name__}")
    linecache.cache[NAME] = (len(source), None, source.splitlines(True), NAME)
    exec(compile_script(source), space)


def pick(space, names):
    """The value of `return`: text: that global; array: object name -> value; missing: None."""
    if isinstance(names, str):
        return space.get(names) if names and names != "__builtins__" else None
    if isinstance(names, (list, tuple)):
        return {str(name): space.get(name) if name != "__builtins__" else None for name in map(str, names)}
    return None


def first_argument(error):
    """An exception's text as NEST Server shows it: its first argument; the whole text where that says more."""
    try:
        if isinstance(error, SyntaxError):
            return str(error.msg)
        if isinstance(error, (OSError, UnicodeError)):
            return str(error)
        args = error.args
        if not args:
            return ""
        return str.__str__(args[0]) if isinstance(args[0], str) else str(args[0])
    except Exception:  # the script's own class
        return ""


_TEXT_LIMIT = 64 << 10
_FRAMES = 50


def describe(error, root=None):
    """The fields `class`, `text`, `line` (if known) and `traceback` of an error: of the script's own frames only, and of those of
    the files below `root`."""
    described = {"class": type(error).__name__, "text": clean(first_argument(error)[:_TEXT_LIMIT])}
    frames = []
    tb = error.__traceback__
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if name == NAME or root is not None and name.startswith(root + "/"):
            frames.append((tb.tb_lineno, tb.tb_frame.f_code.co_name, name))
        tb = tb.tb_next
    line = frames[-1][0] if frames else None
    if isinstance(error, SyntaxError) and error.filename == NAME and error.lineno:
        line = error.lineno
        if not frames or frames[-1][0] != line:
            frames.append((line, "<module>", NAME))
    lines = []
    if len(frames) > _FRAMES:
        skipped = len(frames) - _FRAMES
        frames = frames[: _FRAMES // 2] + [(0, f"... {skipped} more ...", NAME)] + frames[-_FRAMES // 2 :]
    for number, name, file in frames:
        if not number:
            lines.append(name)
            continue
        text = linecache.getline(file, number).strip()
        lines.append(clean(f"line {number}, in {name}" + (f": {text[:400]}" if text else "")))
    if line:
        described["line"] = line
    described["traceback"] = lines
    return described


def clean(text):
    """Text without lone surrogates."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()


def format_full(error):
    """The whole traceback, for the log."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))
