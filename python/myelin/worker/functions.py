"""Packages of functions, read and called inside a sandbox (worker-protocol.md, method "function").

A package is a file NAME.py or a folder NAME, below a root that the server mounted read-only. `scan` looks at the text only and runs
nothing; `read` imports the package and gives its declarations; `call` calls one of its functions; `compile` makes a library of its
MOD files. An error in a package is an answer, not a failure of the call: {"error": {"text", "file", "line"}}.
"""

import array
import ast
import base64
import functools
import importlib.machinery
import importlib.util
import json
import os
import re
import struct
import sys
import traceback
import zlib

from .. import function as declared
from . import arguments, script

MAX_SOURCE = 4 << 20
_ENGINES = ("nest", "neuron", "jaxley")


class PackageError(Exception):
    def __init__(self, text, file=None, line=None):
        super().__init__(text)
        self.file, self.line = file, line

    def answer(self):
        return {"error": {"text": script.clean(str(self)), "file": self.file, "line": self.line}}


def do(meta, body, session):
    """Answers a call with the method "function"."""
    operation = meta["op"]
    if operation == "scan":
        return _answered(scan, meta["root"], meta["package"])
    if operation == "read":
        return _answered(read, meta["root"], meta["package"], meta.get("mechanisms"), meta.get("engine", "python"))
    if operation == "compile":
        return _answered(compile_mechanisms, meta["root"], meta["package"])
    if operation == "call":
        return call(meta, body, session)
    if operation == "prepare":
        loaded(meta)
        return None
    raise ValueError(f"unknown operation {operation!r}")


def _answered(work, *args):
    try:
        return work(*args)
    except PackageError as error:
        return error.answer()


# -- where a package's files are -----------------------------------------------------------------------------------------


def main_file(root, name):
    """Path of the file that the package is, below `root`."""
    for path in (f"{name}.py", f"{name}/__init__.py", f"{name}/{name}.py"):
        if os.path.isfile(os.path.join(root, path)):
            return path
    raise PackageError(f"the package has neither {name}.py nor {name}/__init__.py nor {name}/{name}.py")


def mod_files(root, name):
    """MOD files of the package: paths below `root`, sorted."""
    found = []
    for folder, folders, files in os.walk(os.path.join(root, name)):
        folders.sort()
        found += [os.path.relpath(os.path.join(folder, file), root) for file in files if file.endswith(".mod")]
    return sorted(found)


def _source(root, path):
    with open(os.path.join(root, path), "rb") as file:
        data = file.read(MAX_SOURCE + 1)
    if len(data) > MAX_SOURCE:
        raise PackageError(f"{path} has more than {MAX_SOURCE} bytes", path)
    return data


def _tree(root, path):
    try:
        return ast.parse(_source(root, path), path)
    except SyntaxError as error:
        raise PackageError(f"{type(error).__name__}: {error.msg}", path, error.lineno) from None
    except ValueError as error:  # a NUL in it
        raise PackageError(f"SyntaxError: {error}", path) from None
    except RecursionError:
        raise PackageError("the source is nested too deep", path) from None


# -- scan --------------------------------------------------------------------------------------------------------------


def scan(root, name):
    """{"engine", "mods"}: which engine the package is for, from its text alone."""
    path = main_file(root, name)
    tree = _tree(root, path)
    mods = mod_files(root, name)
    return {"engine": _named_engine(tree) or ("neuron" if mods else _imported_engine(tree)) or "python", "mods": mods}


def _named_engine(tree):
    """ENGINE = "…" of the module, else the first engine="…" of a decorator."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if any(isinstance(target, ast.Name) and target.id == "ENGINE" for target in node.targets):
                return node.value.value
    for node in tree.body:
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call):
                for keyword in decorator.keywords:
                    if keyword.arg == "engine" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
                        return keyword.value.value
    return None


def _imported_engine(tree):
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            if name.partition(".")[0] in _ENGINES:
                return name.partition(".")[0]
    return None


# -- import ------------------------------------------------------------------------------------------------------------


def load(root, name, mechanisms=None):
    """Imports the package. PackageError for what goes wrong in it, with the line in its own files."""
    if name in sys.stdlib_module_names if hasattr(sys, "stdlib_module_names") else name in sys.builtin_module_names:
        raise PackageError(f"'{name}' is a module of Python itself: choose another name")
    if name in sys.modules:
        raise PackageError(f"'{name}' is a module that the engine has imported: choose another name")
    path = main_file(root, name)
    full = os.path.join(root, path)
    _tree(root, path)
    folder = os.path.dirname(full)
    sys.dont_write_bytecode = True
    # At the end: what a package calls like an installed module is found only where nothing else has the name.
    for place in (root, folder):
        if place not in sys.path:
            sys.path.append(place)
    is_package = path.endswith("/__init__.py")
    loader = importlib.machinery.SourceFileLoader(name, full)
    spec = importlib.util.spec_from_file_location(name, full, loader=loader, submodule_search_locations=[folder] if is_package else None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _steer_generators()  # before it takes their names
    try:
        if mechanisms:
            _load_mechanisms(mechanisms)
        loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        raise _package_error(root, error) from None
    return module


def _load_mechanisms(library):
    import neuron

    try:
        neuron.h.nrn_load_dll(library)
    except RuntimeError as error:
        raise PackageError(f"the compiled MOD files can't be loaded: {error}") from None


def _package_error(root, error):
    text = script.first_argument(error) if not isinstance(error, SyntaxError) else error.msg
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SystemExit):
        text = "the package ended itself by exit()"
    file, line = None, None
    if isinstance(error, SyntaxError) and error.filename and _below(root, error.filename):
        file, line = error.filename, error.lineno
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if _below(root, frame.filename):
                file, line = frame.filename, frame.lineno
    return PackageError(text[:4096], os.path.relpath(file, root) if file else None, line)


def _below(root, path):
    return os.path.abspath(path).startswith(root.rstrip("/") + "/")


def read(root, name, mechanisms=None, engine="python"):
    """{"functions": [declaration …], "stdout"}."""
    module = load(root, name, mechanisms)
    path = main_file(root, name)
    made, errors = [], []
    try:
        found = declared.callables(module)
    except declared.DeclarationError as error:
        raise PackageError(str(error), path, error.line) from None
    for callable_name, one in found.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", callable_name):
            raise PackageError(f"'{callable_name[:80]}' is no name of a function: letters, digits and _, at most 64", path)
        try:
            one_said = declared.declaration(callable_name, one, engine)
            json.dumps(one_said)
            made.append(one_said)
        except declared.DeclarationError as error:
            errors.append(PackageError(str(error), path, error.line))
        except Exception as error:
            errors.append(PackageError(f"{callable_name}: {type(error).__name__}: {error}", path))
    if errors:
        raise errors[0]
    return {"functions": made, "description": (module.__doc__ or "").strip()[:65536]}


_loaded = {}


def loaded(meta):
    """The package's module, imported now or ahead of the call."""
    key = (meta["root"], meta["package"])
    if key not in _loaded:
        _loaded[key] = load(meta["root"], meta["package"], meta.get("mechanisms"))
    return _loaded[key]


# -- call --------------------------------------------------------------------------------------------------------------


def call(meta, body, session):
    """{"data", "stdout"}, or the bare value, or {"picture", "bytes"}: as meta's `envelope` says."""
    request, blobs = _unpack(body) if meta.get("blobs") else (body, [])
    given = arguments.loads(request) if len(request) else {}
    if isinstance(given, dict) and meta.get("member", True):
        given = given.get("parameters", {})
    if not isinstance(given, dict):
        raise TypeError("parameters is an object: names and values")
    for name, value in (meta.get("more") or {}).items():
        given[name] = value
    module = loaded(meta)
    one = declared.callables(module).get(meta["callable"])
    if one is None:
        raise AttributeError(f"the package {meta['package']} has no function {meta['callable']}")
    references = {}
    for entry, blob in zip(meta.get("blobs") or (), blobs):
        references[entry["name"]] = _reference(entry, blob)
    if session.stdout is not None:
        session.stdout.take()
    if "seed" in meta:
        _seed(int(meta["seed"]))
    try:
        value = one(**declared.arguments(one, given, references))
    except BaseException as error:
        error.__myelin_root__ = meta["root"]
        raise
    wanted = meta.get("picture")
    value = pictures(value, wanted)
    if wanted:
        return _chosen(value, wanted, meta.get("plots") or ())
    if meta.get("envelope") == "bare":
        return value
    return {"data": value, "stdout": script.clean(session.stdout.take()) if session.stdout is not None else ""}


def _seed(seed):
    import random

    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
        global _sequence
        _sequence = numpy.random.SeedSequence(seed)
        _steer_generators()


_sequence = None  # of the call's seed


def _steer_generators():
    """numpy's generators without a seed of their own get one of the call's: another each, the same at a repetition."""
    numpy = sys.modules.get("numpy")
    if numpy is None or hasattr(numpy.random.default_rng, "__wrapped__"):
        return
    make = numpy.random.default_rng

    @functools.wraps(make)
    def default_rng(seed=None):
        return make(_sequence.spawn(1)[0] if seed is None and _sequence is not None else seed)

    numpy.random.default_rng = default_rng


def _unpack(body):
    """The JSON text and the blobs behind it: u32 count, u64 sizes, then all of it."""
    body = memoryview(body)
    (count,) = struct.unpack_from("<I", body)
    sizes = struct.unpack_from(f"<{count}Q", body, 4)
    at, parts = 4 + 8 * count, []
    for size in sizes:
        parts.append(bytes(body[at : at + size]))
        at += size
    return parts[0], parts[1:]


def _reference(entry, blob):
    if entry["kind"] == "file":
        folder = os.path.join(os.environ.get("HOME", "/tmp"), "files", re.sub(r"[^A-Za-z0-9_]", "_", entry["name"]))
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, os.path.basename(entry["id"]) or "file")
        with open(path, "wb") as file:
            file.write(blob)
        return declared.File(path)
    from ..client import cbor

    values = cbor.loads(blob)
    values = values.get("data") if isinstance(values, dict) else values
    return declared.Run(entry["id"], values) if entry["kind"] == "run" else declared.Session(entry["id"], values)


# -- pictures ----------------------------------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"


class Image:
    """A picture among a result's values."""

    def __init__(self, kind, data):
        self.kind, self.data = kind, data


def pictures(value, wanted=None):
    """The value with its pictures as {"media_type", "base64"}, or as Image where one is wanted."""
    image = _image(value, wanted)
    if image is not None:
        return image if wanted else _as_json(image)
    if isinstance(value, dict) and len(value) <= 10_000:
        changed = None
        for key, item in value.items():
            image = _image(item, wanted)
            if image is not None:
                changed = changed if changed is not None else dict(value)
                changed[key] = image if wanted else _as_json(image)
        if changed is not None:
            return changed
    return value


def _as_json(image):
    return {"media_type": image.kind, "base64": base64.b64encode(image.data).decode()}


def _image(value, wanted):
    if isinstance(value, (bytes, bytearray)) and bytes(value[:8]) == _PNG:
        return Image("image/png", bytes(value))
    if isinstance(value, (bytes, str)) and len(value) < 64 << 20:
        text = value if isinstance(value, str) else None
        if text is None and value.lstrip()[:5] in (b"<?xml", b"<svg ", b"<svg>"):
            text = value.decode("utf-8", "replace")
        if text is not None and text.lstrip()[:5] in ("<?xml", "<svg ", "<svg>") and "<svg" in text[:4096]:
            return Image("image/svg+xml", text.encode())
        return None
    figure = sys.modules.get("matplotlib.figure")
    if figure is not None and isinstance(value, figure.Figure):
        import io

        out = io.BytesIO()
        kind = "image/svg+xml" if wanted == "image/svg+xml" else "image/png"
        value.savefig(out, format="svg" if kind == "image/svg+xml" else "png")
        return Image(kind, out.getvalue())
    return None


def _chosen(value, wanted, plots):
    """The picture that was asked for: the first declared one that is there, else any."""
    images = {"data": value} if isinstance(value, Image) else {k: v for k, v in value.items() if isinstance(v, Image)} if isinstance(value, dict) else {}
    names = [name for name in plots if name in images] + list(images)
    for name in names:
        if images[name].kind == wanted:
            return {"bytes": array.array("B", images[name].data)}
    if images:
        raise PictureError(f"the function gives no {wanted}, but {', '.join(sorted({image.kind for image in images.values()}))}")
    raise PictureError("the function gave no picture: ask for application/json")


class PictureError(Exception):
    pass


# -- MOD files -----------------------------------------------------------------------------------------------------------


def compile_mechanisms(root, name):
    """{"bytes"}: the shared library of the package's MOD files, made by nrnivmodl."""
    import shutil
    import subprocess

    mods = mod_files(root, name)
    if not mods:
        raise PackageError("the package has no MOD files")
    program = os.path.join(os.path.dirname(sys.executable), "nrnivmodl")
    if not os.path.exists(program):
        program = shutil.which("nrnivmodl")
    if not program:
        raise PackageError("this engine has no nrnivmodl: MOD files can't be compiled here")
    for tool in ("make", "g++"):
        if shutil.which(tool) is None:
            raise PackageError(f"{tool} is missing on this server: MOD files can't be compiled here")
    place = os.path.join(os.environ.get("HOME", "/tmp"), "mechanisms")
    os.makedirs(place)
    by_name = {}
    for path in mods:
        flat = os.path.basename(path)
        if flat in by_name:
            raise PackageError(f"two MOD files are named {flat}", path)
        by_name[flat] = path
        shutil.copyfile(os.path.join(root, path), os.path.join(place, flat))
    environment = dict(os.environ, TERM="dumb", LC_ALL="C.UTF-8")
    done = subprocess.run([sys.executable, program, "."] if _is_python(program) else [program, "."], cwd=place, env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode("utf-8", "replace"))
    for folder, _, files in os.walk(place):
        if "libnrnmech.so" in files and done.returncode == 0:
            with open(os.path.join(folder, "libnrnmech.so"), "rb") as file:
                library = file.read()
            return {"bytes": array.array("B", library), "crc32": zlib.crc32(library)}
    raise _mod_error(output, by_name, place)


def _line_in_mod(path, complaint, shown):
    """Where the compiler's complaint about the translation lies in the MOD file: the statement that it shows, else the name that it
    does not know."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()

    def bare(text):
        return re.sub(r"[\s;]", "", text)

    statement = bare(shown.partition("|")[2])
    if statement:
        for number, one in enumerate(lines, 1):
            if statement in bare(one):
                return number
    named = re.search(r"[‘'\"](\w+)[’'\"]", complaint)
    if named:
        for number, one in enumerate(lines, 1):
            if re.search(rf"\b{re.escape(named.group(1))}\b", one):
                return number
    return None


def _is_python(path):
    with open(path, "rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def _mod_error(output, by_name, place):
    """The first complaint of nmodl or the compiler, with its MOD file and line where they are told."""
    lines = output.splitlines()
    text, file, line = "", None, None
    for number, one in enumerate(lines):
        # nocmodl: "syntax error:" …, " at line 5 in file leaky.mod"
        match = re.search(r"at line (\d+) in file (\S+\.mod)", one)
        if match:
            line, file = int(match.group(1)), os.path.basename(match.group(2))
            text = " ".join(part.strip() for part in (lines[number - 1 : number] + [one]) if part.strip())
            more = [part.rstrip() for part in lines[number + 1 : number + 3] if part.strip()]
            text = "\n".join([text] + more)
            break
    if not file:
        for number, one in enumerate(lines):
            match = re.search(r"(?:^|/)([\w.-]+)\.(?:mod|cpp|c):\d+(?::\d+)?: (?:fatal )?error: (.*)", one)
            if match and match.group(1) + ".mod" in by_name:
                file, text = match.group(1) + ".mod", match.group(2)
                line = _line_in_mod(os.path.join(place, file), text, lines[number + 1] if number + 1 < len(lines) else "")
                break
    if not file:
        current = None
        for one in lines:
            match = re.search(r"(?:Translating|NMODL) \S*?([\w.-]+\.mod)", one)
            current = match.group(1) if match else current
            if re.search(r"\berror\b|Error|undefined|not allowed|illegal", one) and not one.startswith("make"):
                text, file = one.strip(), current
                break
    if not text:
        text = "\n".join(lines[-5:])
    return PackageError("MOD: " + text.replace(place + "/", "")[:4096], by_name.get(file) if file else None, line)
