"""What a function says of itself. Authors import this; the standard library is all it needs.

    from typing import Annotated
    from myelin.function import function, Unit, Range, Help

    @function(title="Spikes of a cell", engine="neuron", deterministic=True)
    def spikes(amp: Annotated[float, Unit("nA"), Range(-1, 1), Help("injected current")] = 0.1) -> dict:
        ...

Everything is optional: a function without a word of this takes JSON and gives JSON. A call works as ever in plain Python, for the
decorator returns the function itself.
"""

import array as _array
import dataclasses as _dataclasses
import enum as _enum
import inspect as _inspect
import math as _math
import sys as _sys
import types as _types
import typing as _typing

__all__ = ["function", "Unit", "Range", "Help", "Title", "Dims", "Result", "Line", "Dots", "Picture", "Limits", "File", "Session", "Run"]


# -- what stands in Annotated ------------------------------------------------------------------------------------------


@_dataclasses.dataclass(frozen=True)
class Unit:
    """The unit of a number, as people write it: "mV", "nA", "um"."""

    name: str


@_dataclasses.dataclass(frozen=True)
class Range:
    """The least and the greatest value, both allowed; None: no bound. For a list, of each of its values."""

    minimum: object = None
    maximum: object = None


@_dataclasses.dataclass(frozen=True)
class Help:
    """A sentence for the form and for --help."""

    text: str


@_dataclasses.dataclass(frozen=True)
class Title:
    """What the form calls the parameter, instead of its name."""

    text: str


@_dataclasses.dataclass(frozen=True)
class Dims:
    """Names of an array's dimensions, outermost first."""

    names: tuple

    def __init__(self, *names):
        object.__setattr__(self, "names", tuple(str(name) for name in names))


# -- what a parameter may refer to -------------------------------------------------------------------------------------


class File(str):
    """A file that the caller hands over: a copy of it is in the function's sandbox, and this is its path there."""


class Session:
    """Values of a session of the caller's: `values` is a dict of the globals that the caller named."""

    def __init__(self, id, values):
        self.id, self.values = id, values

    def __getitem__(self, name):
        return self.values[name]


class Run:
    """A run of the caller's: `data` is what it gave."""

    def __init__(self, id, data):
        self.id, self.data = id, data

    def __getitem__(self, name):
        return self.data[name]


# -- what the decorator takes ------------------------------------------------------------------------------------------


@_dataclasses.dataclass(frozen=True)
class Result:
    """One value of the result: of a dict that is returned by its key, else "data"."""

    unit: str = ""
    dims: tuple = ()
    help: str = ""


@_dataclasses.dataclass(frozen=True)
class Line:
    """A line plot of `y` (one name or several) over `x`."""

    x: str
    y: object
    title: str = ""
    kind = "line"


@_dataclasses.dataclass(frozen=True)
class Dots:
    """Points: `y` over `x`."""

    x: str
    y: object
    title: str = ""
    kind = "dots"


@_dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that the function gives itself under this name: bytes of a PNG, text of an SVG, or a figure of matplotlib."""

    name: str = "data"
    title: str = ""
    kind = "picture"


@_dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one call, below those of who calls: seconds of time, bytes of memory."""

    seconds: float = 0
    memory_bytes: int = 0


_MARK = "__myelin_function__"


def function(of=None, *, title="", engine="", deterministic=False, public=False, plots=(), results=None, limits=None):
    """Says more of a function than its signature does.

    title           what lists and forms call it
    engine          which engine's worker runs it: python, neuron, nest, jaxley, or one of the operator's own
    deterministic   the same parameters give the same result: it may be remembered
    public          everybody may call it, without a token too
    plots           Line, Dots and Picture: how the page shows the result
    results         name -> Result, or a unit's name
    limits          Limits
    """

    def mark(one):
        setattr(one, _MARK, {"title": title, "engine": engine, "deterministic": bool(deterministic), "public": bool(public),
                             "plots": list(plots), "results": dict(results or {}), "limits": limits})
        return one

    return mark if of is None else mark(of)


# -- reading a declaration ---------------------------------------------------------------------------------------------


class DeclarationError(Exception):
    """A declaration that means nothing, with the line of the function in its file."""

    def __init__(self, text, line=None):
        super().__init__(text)
        self.line = line


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "text"}
_MISSING = _inspect.Parameter.empty
_UNIONS = (_typing.Union, getattr(_types, "UnionType", _typing.Union))


def callables(module):
    """The module's public functions, by name: those of `__all__`, else those that it defines without a leading underscore."""
    names = getattr(module, "__all__", None)
    found = {}
    if names is not None:
        for name in names:
            if not isinstance(name, str) or not hasattr(module, name):
                raise DeclarationError(f"__all__ names {name!r}, which the module does not define")
            one = getattr(module, name)
            if callable(one) and not isinstance(one, type):
                found[name] = one
        return found
    for name, one in list(vars(module).items()):
        if name.startswith("_") or not _inspect.isfunction(one):
            continue
        if one.__module__ == module.__name__:
            found[name] = one
    return found


def declaration(name, one, engine="python"):
    """What the server, the form and the clients need to know of a function: a dict of plain JSON values."""
    line = None
    code = getattr(_inspect.unwrap(one), "__code__", None)
    if code is not None:
        line = code.co_firstlineno
    try:
        said = getattr(one, _MARK, {})
        signature = _inspect.signature(one)
        try:
            hints = _typing.get_type_hints(_inspect.unwrap(one), include_extras=True)
        except Exception as error:  # a name in a text annotation that there is not
            raise DeclarationError(f"{name}: an annotation can't be understood: {error}") from None
        parameters, variadic = [], False
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is _MISSING:
                    raise DeclarationError(f"{name}: parameter '{parameter.name}' can't be given by name")
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                variadic = True
                continue
            parameters.append(_parameter(name, parameter, hints.get(parameter.name, _MISSING)))
        typed = any(parameter["kind"] != "any" or len(parameter) > 3 + ("default" in parameter) for parameter in parameters)
        return {
            "name": name,
            "title": _text(said.get("title"), "title"),
            "description": _inspect.getdoc(one) or "",
            "engine": said.get("engine") or engine,
            "deterministic": said.get("deterministic", False),
            "public": said.get("public", False),
            "typed": typed,
            "variadic": variadic,
            "parameters": parameters,
            "results": {str(key): _result(value) for key, value in said.get("results", {}).items()},
            "plots": [_plot(value) for value in said.get("plots", ())],
            "limits": _limits(said.get("limits")),
            "signature": _signature(name, parameters, variadic),
            "line": line,
        }
    except DeclarationError as error:
        error.line = error.line or line
        raise


def _signature(name, parameters, variadic):
    parts = []
    for parameter in parameters:
        parts.append(parameter["name"] if parameter["required"] else f"{parameter['name']}={_shown(parameter.get('default'))}")
    return f"{name}({', '.join(parts + (['**more'] if variadic else []))})"


def _shown(value):
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _text(value, what):
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DeclarationError(f"{what} must be a text, not {type(value).__name__}")
    return value


def _parameter(function_name, parameter, hint):
    where = f"{function_name}: parameter '{parameter.name}'"
    made = {"name": parameter.name, "required": parameter.default is _MISSING}
    extras = ()
    if _typing.get_origin(hint) is _typing.Annotated:
        hint, *extras = _typing.get_args(hint)
    made.update(_kind(where, hint))
    target = made
    for extra in extras:
        if isinstance(extra, Unit):
            made["unit"] = _text(extra.name, f"{where}: the unit")
        elif isinstance(extra, Help) or isinstance(extra, str):
            made["help"] = extra if isinstance(extra, str) else _text(extra.text, f"{where}: the help")
        elif isinstance(extra, Title):
            made["title"] = _text(extra.text, f"{where}: the title")
        elif isinstance(extra, Dims):
            made["dims"] = list(extra.names)
        elif isinstance(extra, Range) or isinstance(extra, range):
            least, most = (extra.minimum, extra.maximum) if isinstance(extra, Range) else (extra.start, extra.stop - 1)
            target = made
            while target["kind"] == "list":
                target = target["items"]
            if target["kind"] not in ("number", "integer", "array"):
                raise DeclarationError(f"{where}: a range is for numbers")
            for key, bound in (("minimum", least), ("maximum", most)):
                if bound is None:
                    continue
                if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not _math.isfinite(bound):
                    raise DeclarationError(f"{where}: the {key} must be a finite number")
                target[key] = bound
            if least is not None and most is not None and least > most:
                raise DeclarationError(f"{where}: the range is empty ({least} to {most})")
    if parameter.default is not _MISSING:
        default = _plain(parameter.default)
        if default is _MISSING:
            made["default_text"] = _shown(parameter.default)  # no JSON: the call leaves it out
        else:
            made["default"] = default
            if default is None and made["kind"] != "any":
                made["nullable"] = True
    return made


def _kind(where, hint):
    if hint is _MISSING or hint is _typing.Any:
        return {"kind": "any"}
    if hint in _KINDS:
        return {"kind": _KINDS[hint]}
    if hint is None or hint is type(None):
        return {"kind": "null"}
    for reference, kind in ((File, "file"), (Session, "session"), (Run, "run")):
        if hint is reference:
            return {"kind": kind}
    origin, args = _typing.get_origin(hint), _typing.get_args(hint)
    if origin is _typing.Annotated:
        return _kind(where, args[0])
    if origin is _typing.Literal:
        return _choices(where, args)
    if isinstance(hint, type) and issubclass(hint, _enum.Enum):
        return _choices(where, [member.value for member in hint])
    if origin in _UNIONS:
        rest = [arg for arg in args if arg is not type(None)]
        if len(rest) == 1:
            return {**_kind(where, rest[0]), "nullable": True}
        if set(rest) == {int, float}:
            return {"kind": "number", **({"nullable": True} if len(rest) < len(args) else {})}
        return {"kind": "any"}
    if hint in (list, tuple) or origin in (list, tuple):
        if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
            kinds = [_kind(where, arg) for arg in args]
            if not kinds:
                return {"kind": "list"}
            if any(kind != kinds[0] for kind in kinds):
                return {"kind": "list", "items": {"kind": "any"}, "length": len(kinds)}
            return {"kind": "list", "items": kinds[0], "length": len(kinds)}
        return {"kind": "list", "items": _kind(where, args[0])} if args else {"kind": "list", "items": {"kind": "any"}}
    if hint is dict or origin is dict:
        return {"kind": "object"}
    named = hint if isinstance(hint, type) else origin
    if getattr(named, "__module__", "").partition(".")[0] == "numpy" and getattr(named, "__name__", "") == "ndarray":
        return {"kind": "array"}
    raise DeclarationError(f"{where}: {getattr(hint, '__name__', hint)} is no type that a parameter can have: use int, float, bool, "
                           "str, list, dict, Literal, Optional, a numpy array, File, Session or Run")


def _choices(where, values):
    choices = [_plain(value) for value in values]
    if not choices or any(choice is _MISSING or isinstance(choice, (list, dict)) for choice in choices):
        raise DeclarationError(f"{where}: choices are texts, numbers or booleans")
    kinds = {"boolean" if isinstance(c, bool) else "text" if isinstance(c, str) else "number" for c in choices if c is not None}
    return {"kind": "choice", "choices": choices, "of": kinds.pop() if len(kinds) == 1 else "any"}


def _plain(value):
    """The value as JSON has it; _MISSING if it has no such form."""
    if value is None or isinstance(value, (bool, int, str)):
        return value.value if isinstance(value, _enum.Enum) else value
    if isinstance(value, float):
        return value if _math.isfinite(value) else _MISSING
    if isinstance(value, _enum.Enum):
        return _plain(value.value)
    if isinstance(value, (list, tuple, _array.array)):
        items = [_plain(item) for item in value]
        return _MISSING if any(item is _MISSING for item in items) else items
    if isinstance(value, dict):
        items = {str(key): _plain(item) for key, item in value.items()}
        return _MISSING if any(item is _MISSING for item in items.values()) else items
    numpy = _sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _plain(value.tolist())
    return _MISSING


def _result(value):
    if isinstance(value, str):
        value = Result(unit=value)
    if isinstance(value, dict):
        value = Result(**value)
    if not isinstance(value, Result):
        raise DeclarationError("results: each is a Result or the name of a unit")
    dims = (value.dims,) if isinstance(value.dims, str) else value.dims
    return {"unit": str(value.unit), "dims": [str(dim) for dim in dims], "help": str(value.help)}


def _plot(value):
    if isinstance(value, str):
        value = Picture(value)
    if isinstance(value, Picture):
        return {"kind": "picture", "name": value.name, "title": value.title}
    if isinstance(value, (Line, Dots)):
        return {"kind": value.kind, "x": value.x, "y": [value.y] if isinstance(value.y, str) else list(value.y), "title": value.title}
    raise DeclarationError("plots: each is a Line, Dots or Picture")


def _limits(value):
    if value is None:
        return {}
    if isinstance(value, dict):
        value = Limits(**value)
    if not isinstance(value, Limits):
        raise DeclarationError("limits: a Limits")
    made = {}
    for name in ("seconds", "memory_bytes"):
        number = getattr(value, name)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < 1e15:
            raise DeclarationError(f"limits: {name} must be a number from 0 on")
        if number:
            made[name] = number
    return made


# -- arguments ---------------------------------------------------------------------------------------------------------


def arguments(one, given, references=None):
    """Keyword arguments from JSON values, as the annotations want them. What was checked by the server is not checked again."""
    if not any(annotation is not _MISSING for annotation in getattr(_inspect.unwrap(one), "__annotations__", {}).values()):
        return dict(given)
    try:
        hints = _typing.get_type_hints(_inspect.unwrap(one), include_extras=True)
    except Exception:
        hints = {}
    return {name: _convert(value, hints.get(name, _MISSING), (references or {}).get(name)) for name, value in given.items()}


def _convert(value, hint, reference):
    origin = _typing.get_origin(hint)
    if origin is _typing.Annotated:
        return _convert(value, _typing.get_args(hint)[0], reference)
    if value is None or hint is _MISSING or hint is _typing.Any:
        return value
    if origin in _UNIONS:
        rest = [arg for arg in _typing.get_args(hint) if arg is not type(None)]
        if len(rest) == 1:
            return _convert(value, rest[0], reference)
        return float(value) if set(rest) == {int, float} and not isinstance(value, int) else value
    if hint in (File, Session, Run):
        return value if reference is None else reference
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(hint, type) and issubclass(hint, _enum.Enum):
        return hint(value)
    if isinstance(value, list):
        args = _typing.get_args(hint)
        if hint is tuple or origin is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                args = (args[0],) * len(value)
            return tuple(_convert(item, arg, None) for item, arg in zip(value, args)) if len(args) == len(value) else tuple(value)
        if origin is list and args:
            if args[0] is float and all(type(item) is float for item in value):
                return value
            return [_convert(item, args[0], None) for item in value]
        named = hint if isinstance(hint, type) else origin
        if getattr(named, "__name__", "") == "ndarray":
            import numpy

            dtype = None
            for arg in args:  # numpy.ndarray[shape, numpy.dtype[numpy.float64]]
                if _typing.get_args(arg) and isinstance(_typing.get_args(arg)[0], type):
                    dtype = _typing.get_args(arg)[0]
            return numpy.array(value, dtype=dtype if dtype is not None else None if _integers(value) else float)
    return value


def _integers(value):
    if isinstance(value, list):
        return bool(value) and all(_integers(item) for item in value)
    return isinstance(value, (int, bool, str))
