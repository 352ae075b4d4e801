"""Declarations as they are read from modules, and what arguments become."""

import enum
import json
import typing
from typing import Annotated, Any, Dict, List, Literal, Optional, Union

import pytest

from myelin import function as declared
from myelin.function import DeclarationError, Dims, File, Help, Limits, Line, Picture, Range, Result, Run, Title, Unit, declaration, function
from myelin.worker import functions


class Mode(enum.Enum):
    ic = "ic"
    vc = "vc"


def parameters(one):
    made = declaration(one.__name__, one)
    json.dumps(made)
    return {p["name"]: p for p in made["parameters"]}


def test_a_function_without_a_word_is_untyped():
    def f(a, b=3, *args, c=None, **more):
        """Doc."""

    made = declaration("f", f, "neuron")
    assert (made["typed"], made["variadic"], made["engine"], made["description"], made["signature"]) == (False, True, "neuron", "Doc.", "f(a, b=3, c=None, **more)")
    assert [(p["name"], p["required"], p["kind"]) for p in made["parameters"]] == [("a", True, "any"), ("b", False, "any"), ("c", False, "any")]
    assert made["line"] > 1


@pytest.mark.parametrize("hint, wanted", [
    (int, {"kind": "integer"}), (float, {"kind": "number"}), (bool, {"kind": "boolean"}), (str, {"kind": "text"}), (dict, {"kind": "object"}), (Dict[str, int], {"kind": "object"}),
    (list, {"kind": "list", "items": {"kind": "any"}}), (List[float], {"kind": "list", "items": {"kind": "number"}}),
    (typing.Tuple[int, ...], {"kind": "list", "items": {"kind": "integer"}}), (typing.Tuple[float, float], {"kind": "list", "items": {"kind": "number"}, "length": 2}),
    (Optional[int], {"kind": "integer", "nullable": True}), (Union[int, float], {"kind": "number"}), (Union[int, str], {"kind": "any"}), (Any, {"kind": "any"}),
    (Literal["a", "b"], {"kind": "choice", "choices": ["a", "b"], "of": "text"}), (Mode, {"kind": "choice", "choices": ["ic", "vc"], "of": "text"}),
    (File, {"kind": "file"}), (declared.Session, {"kind": "session"}), (Run, {"kind": "run"}),
    (Annotated[float, Unit("mV"), Range(-90, 50), Help("h"), Title("V")], {"kind": "number", "unit": "mV", "minimum": -90, "maximum": 50, "help": "h", "title": "V"}),
    (Annotated[List[int], Range(0, None)], {"kind": "list", "items": {"kind": "integer", "minimum": 0}}),
    (Annotated[Optional[float], "short help"], {"kind": "number", "nullable": True, "help": "short help"}),
])
def test_kinds_of_parameters(hint, wanted):
    def f(x):
        pass

    f.__annotations__ = {"x": hint}
    assert parameters(f)["x"] == {"name": "x", "required": True, **wanted}


def test_arrays():
    numpy = pytest.importorskip("numpy")

    def f(x: Annotated[numpy.ndarray, Dims("t", "cell"), Unit("mV")], y: "numpy.typing.NDArray[numpy.float32]" = None):
        return x, y

    f.__annotations__["y"] = numpy.typing.NDArray[numpy.float32] if hasattr(numpy, "typing") else numpy.ndarray
    made = parameters(f)
    assert made["x"] == {"name": "x", "required": True, "kind": "array", "dims": ["t", "cell"], "unit": "mV"}
    given = declared.arguments(f, {"x": [[1, 2], [3, 4]], "y": [1, 2]})
    assert given["x"].tolist() == [[1, 2], [3, 4]] and given["x"].dtype.kind == "i"
    assert declared.arguments(f, {"x": [1, 2.5]})["x"].dtype == numpy.float64
    assert declared.arguments(f, {"x": []})["x"].shape == (0,)


def test_defaults_that_json_lacks_are_left_out():
    numpy = pytest.importorskip("numpy")

    def f(a: float = float("nan"), b=object, c=(1, 2), d: Mode = Mode.vc, e: Optional[float] = None, g=numpy.arange(3)):
        pass

    made = parameters(f)
    assert "default" not in made["a"] and "default" not in made["b"] and not made["a"]["required"]
    assert (made["c"]["default"], made["d"]["default"], made["e"]["default"], made["g"]["default"]) == ([1, 2], "vc", None, [0, 1, 2])


def test_what_the_decorator_says():
    @function(title="T", engine="nest", deterministic=True, public=True, plots=[Line("t", "v"), Picture("p"), "q"], results={"v": Result("mV", "t"), "t": "ms"},
              limits=Limits(seconds=2, memory_bytes=1 << 30))
    def f():
        return 1

    made = declaration("f", f)
    assert f() == 1
    assert (made["title"], made["engine"], made["deterministic"], made["public"]) == ("T", "nest", True, True)
    assert made["plots"] == [{"kind": "line", "x": "t", "y": ["v"], "title": ""}, {"kind": "picture", "name": "p", "title": ""}, {"kind": "picture", "name": "q", "title": ""}]
    assert made["results"] == {"v": {"unit": "mV", "dims": ["t"], "help": ""}, "t": {"unit": "ms", "dims": [], "help": ""}}
    assert made["limits"] == {"seconds": 2, "memory_bytes": 1 << 30}

    @function
    def bare():
        pass

    assert declaration("bare", bare)["title"] == ""


@pytest.mark.parametrize("hint", [object, complex, set, Annotated[str, Range(0, 1)], Annotated[float, Range(2, 1)], Annotated[float, Range(float("nan"), 1)],
                                  Annotated[float, Unit(3)], Literal[(1, 2), b"x"]])
def test_declarations_that_mean_nothing(hint):
    def f(x):
        pass

    f.__annotations__ = {"x": hint}
    with pytest.raises(DeclarationError) as told:
        declaration("f", f)
    assert told.value.line == f.__code__.co_firstlineno and "x" in str(told.value)


def test_arguments_become_what_is_annotated():
    def f(a: float, b: int, c: Mode, d: typing.Tuple[float, ...], e: Optional[float], g, h: List[float]):
        pass

    given = declared.arguments(f, {"a": 1, "b": 2.0, "c": "vc", "d": [1, 2], "e": None, "g": 1, "h": [1, 2]})
    assert given == {"a": 1.0, "b": 2, "c": Mode.vc, "d": (1.0, 2.0), "e": None, "g": 1, "h": [1.0, 2.0]}
    assert type(given["a"]) is float and type(given["b"]) is int and type(given["h"][0]) is float and type(given["g"]) is int


def package(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/") if "/" in name else tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize("text, engine", [
    ("import neuron", "neuron"), ("from nest import Create", "nest"), ("def f():\n    import jaxley", "jaxley"), ("import math", "python"), ("ENGINE = 'lab'", "lab"),
    ("from myelin.function import function\n@function(engine='nest')\ndef f(): import neuron", "nest"), ("raise ValueError", "python"),
])
def test_the_engine_is_found_without_running_anything(tmp_path, text, engine):
    root = package(tmp_path, **{"scanned.py": text})
    assert functions.scan(root, "scanned") == {"engine": engine, "mods": []}


def test_reading_a_package(tmp_path):
    root = package(tmp_path, **{"reading_one.py": "'About.'\ndef f(x: int): pass\ndef _g(): pass\nfrom math import sin\n"})
    answer = functions.do({"op": "read", "root": root, "package": "reading_one"}, b"", None)
    assert [f["name"] for f in answer["functions"]] == ["f"] and answer["description"] == "About."


@pytest.mark.parametrize("text, line, words", [("def f(:", 1, "SyntaxError"), ("\n\n1/0", 3, "ZeroDivisionError"), ("x = '\0'", None, "null"), ("def f():\n\tpass\n        pass", 3, "Error"),
                                               ("exit()", 1, "exit"), ("def f(x: set): pass", 1, "no type")])
def test_errors_of_a_package_are_answers(tmp_path, text, line, words):
    root = package(tmp_path, **{"reading_bad.py": text})
    answer = functions.do({"op": "read", "root": root, "package": "reading_bad"}, b"", None)
    assert answer["error"]["line"] == line and words in answer["error"]["text"], answer
    assert functions.do({"op": "scan", "root": str(tmp_path), "package": "missing"}, b"", None)["error"]["file"] is None


def test_names_of_other_modules_are_refused(tmp_path):
    for name in ("json", "pytest"):
        root = package(tmp_path, **{name + ".py": "def f(): pass"})
        assert "choose another name" in functions.do({"op": "read", "root": root, "package": name}, b"", None)["error"]["text"]


def test_pictures_among_results():
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 10
    assert functions.pictures({"a": png, "b": 1})["a"]["media_type"] == "image/png"
    assert functions.pictures("<svg xmlns=''></svg>")["media_type"] == "image/svg+xml"
    assert functions.pictures({"a": b"other", "b": "text"}) == {"a": b"other", "b": "text"}
    assert bytes(functions._chosen(functions.pictures({"p": png, "q": png + b"!"}, "image/png"), "image/png", ["q"])["bytes"]).endswith(b"!")
    with pytest.raises(functions.PictureError):
        functions._chosen(functions.pictures({"a": 1}, "image/png"), "image/png", [])


def test_where_a_compiler_complains(tmp_path):
    (tmp_path / "na.mod").write_text("NEURON { SUFFIX na }\nBREAKPOINT {\n  i = q * v\n}\n")
    path = str(tmp_path / "na.mod")
    assert functions._line_in_mod(path, "‘q’ was not declared in this scope", "  241 |    i = q * v ;") == 3
    assert functions._line_in_mod(path, "‘SUFFIX’ was not declared", "") == 1
    assert functions._line_in_mod(path, "something else", "  3 | zzz") is None
