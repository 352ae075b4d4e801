"""The pages of simulation functions: list, forms, sweeps, the editor of one's own packages; in headless Chromium on a real server."""

import json
import os
import pathlib
import textwrap

import pytest

from browser import drive
from conftest import add_user

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOTS = os.environ.get("MYELIN_SHOTS", "")  # a folder for pictures of the views
MARKUP = "<img src=x onerror=window.ran=1><b class=x>&amp;"

CELLS = '''
from typing import Annotated, Literal, Optional
from myelin.function import Help, Limits, Line, Range, Result, Unit, function

@function(title="A leaky cell", deterministic=True, plots=[Line("t", "v", "Membrane potential")],
          results={"t": "ms", "v": Result("mV", dims=("t",), help="membrane potential")}, limits=Limits(seconds=10))
def leaky(amp: Annotated[float, Unit("nA"), Range(-5, 5), Help("injected current")] = 0.1,
          tau: Annotated[float, Unit("ms"), Range(0.1, 1000), Help("membrane time constant")] = 10.0,
          steps: Annotated[int, Range(1, 100_000), Help("of 0.1 ms")] = 500,
          method: Literal["euler", "exact"] = "exact",
          start: Optional[float] = None):
    """The response to a step of current, from rest or from `start`."""
    import numpy
    t = numpy.arange(steps) * 0.1
    rest = -65.0 if start is None else start
    return {"t": t, "v": rest + 100 * amp * (1 - numpy.exp(-t / tau))}
'''
OTHERS = {
    "cells.py": CELLS,
    "drawing.py": '''
        from myelin.function import Picture, function

        @function(plots=[Picture("plot")], title="A bar", public=True)
        def bar(height: float = 50.0):
            """As high as it is said."""
            return {"height": height, "plot": f"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='100'><rect width='10' height='{height}'/><script>window.ran=1</script></svg>"}
        ''',
    "kinds.py": '''
        import time
        from typing import Annotated
        import numpy
        from myelin.function import File, Range, Title, function

        def many(flag: bool = False, values: numpy.ndarray = (1.0, 2.0), words: Annotated[list[str], Title("Names of parts")] = ("a",), anything=None, n: int = 3):
            return {"flag": flag, "sum": float(numpy.sum(values)), "shape": list(numpy.shape(values)), "words": words, "anything": anything}

        def picky(path: File):
            return open(path).read()

        def fails(x: float = 1.0):
            raise RuntimeError("not today")

        def endless():
            time.sleep(600)

        def slow(n: Annotated[int, Range(1, 500)] = 1):
            time.sleep(0.6)
            return {"n": n}
        ''',
    "typo.py": "def f():\n    return 1 +\n",
}
CELL = '''from neuron import h

def rest(g: float = 0.01):
    h.load_file("stdrun.hoc")
    s = h.Section(name="s")
    s.insert("leaky")
    s(0.5).leaky.g = g
    h.finitialize(-70)
    h.continuerun(5)
    return {"v": round(s(0.5).v, 3)}
'''


@pytest.fixture(scope="module", autouse=True)
def built():
    if not (ROOT / "web" / "dist" / "index.html").is_file():
        pytest.skip("web/dist is not built: `make web` does it")


@pytest.fixture(scope="module")
def lab(module_server):
    server = module_server()
    folder = server.data / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in OTHERS.items():
        (folder / name).write_text(textwrap.dedent(text))
    marked = '''
        from typing import Annotated
        from myelin.function import Help, Line, Result, Title, Unit, function
        M = %r

        @function(title=M, plots=[Line("t", M, M)], results={"t": M, M: Result(M, help=M), "text": Result(M, help=M)})
        def f(value: Annotated[float, Unit(M), Help(M), Title(M)] = 1.0, more: str = M):
            """%s"""
            print(M)
            return {"t": [1, 2, 3], M: [1, 4, 2], "text": M, "picture": {"media_type": M, "base64": M}}

        def g():
            raise RuntimeError(M)
        ''' % (MARKUP, MARKUP)
    (folder / "marked.py").write_text(textwrap.dedent(marked))
    return server


def token(server, name):
    """Of a member who has chosen their password."""
    add_user(server, name, password="five-green-kettles-hum")
    return server.client().post("/v1/tokens", {"name": "page", "user": name}).json()["token"]


def visit(what, server, **known):
    if SHOTS:
        pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
    result = drive("functions.mjs", what, server.url, SHOTS, json.dumps({"token": server.token, "markup": MARKUP, **known}), timeout=280)
    assert result["errors"] == [] and result["foreign"] == [], result
    return result


def test_functions_are_listed_found_and_public_ones_called_by_anybody(lab):
    seen = visit("list", lab)
    assert "A leaky cell" in seen["text"] and "typo is broken" in seen["text"] and "typo.py, line 2" in seen["text"] and "SyntaxError" in seen["text"]
    assert seen["count"] > 5 and seen["found"] == 1 and "No function has these words" in seen["none"]
    assert "drawing.bar" in seen["names"] and "cells.leaky" not in seen["names"] and "Authorization" not in seen["anonymous"] and seen["editors"] == 0


def test_a_form_calls_shows_keeps_and_follows_a_slider(lab):
    seen = visit("form", lab)
    assert seen["first"] > 1000 and "in " in seen["took"]
    assert seen["wrong"] == {"amp": "must be between -5 and 5", "focused": "p-amp"}
    assert '{"parameters":{"amp":0.2,"method":"euler","start":-70}}' in seen["curl"] and "$MYELIN_TOKEN" in seen["curl"]
    assert 'client.functions.cells.leaky(amp=0.2, method="euler", start=-70)' in seen["python"]
    assert "--amp 0.2" in seen["cli"] and "--method euler" in seen["cli"]
    assert {name: one["name"] for name, one in seen["downloads"].items()} == {"JSON": "leaky.json", "CSV": "leaky.zip", "npz": "leaky.npz"}
    assert all(one["bytes"] > 200 for one in seen["downloads"].values())
    kept = lab.client().get("/v1/runs/" + seen["kept"].rpartition("/")[2]).json()
    assert kept["title"] == "kept from the form" and kept["kind"] == "function"
    assert 2 <= seen["calls"] <= 31 and seen["last"] == {"amp": float(seen["field"])} and float(seen["field"]) > 0.5


def test_answers_of_every_kind(lab):
    seen = visit("answers", lab)
    assert "no file not-there.txt" in seen["path"]
    assert "10" in seen["values"] and "[2, 2]" in seen["values"].replace("[2,2]", "[2, 2]") and "dend" in seen["values"]
    assert seen["pictures"]["src"] == "data:image/svg+xml;base64," and seen["pictures"]["width"] == 20 and seen["pictures"]["svg"]["name"] == "bar.svg"
    assert "RuntimeError" in seen["failed"] and "not today" in seen["failed"] and "Running" in seen["running"]


def test_a_function_is_written_checked_repaired_published_and_called_by_another(lab):
    seen = visit("write", lab, token=token(lab, "anna"), other=token(lab, "ben"))
    assert "Letters, digits" in seen["badName"] and "1 function: response" in seen["template"]
    assert "return x *" in seen["wrong"]["line"] and "SyntaxError" in seen["wrong"]["said"] and seen["wrong"]["publish"]
    assert "twice" in seen["tried"] and "8" in seen["tried"] and "raise ValueError" in seen["raised"]
    assert "twice" in seen["theirs"] and "4" in seen["theirs"] and seen["edits"] == 0
    assert len(seen["versions"]) == 2 and seen["versions"][0].startswith("2") and "all who sign in" in seen["versions"][0]
    assert "twice" in seen["old"] and '"twice"' in seen["restored"] and "twice" in seen["again"]
    anna = lab.client(token(lab, "anna2"))
    assert anna.post("/v1/functions/mine.double", {}).status == 404  # deleted at the end


def test_a_mod_file_is_compiled_and_its_error_marked(lab):
    seen = visit("mod", lab, token=token(lab, "clara"), cell=CELL)
    assert "leaky.mod" in seen["wrong"]["said"] and seen["wrong"]["line"]
    assert "1 function: rest" in seen["state"] and "-6" in seen["value"]


def test_a_sweep_is_drawn_while_it_runs_and_cancelled(lab):
    seen = visit("sweep", lab)
    assert seen["drawn"] == "v" and seen["size"] > 1000 and "between -5 and 5" in seen["wrong"]
    assert "cancelled" in seen["cancelled"] and seen["plots"] == 1


def test_the_cell_of_the_server_answers_a_slider_without_signing_in(lab):
    names = [one["id"] for one in lab.client(None).get("/v1/functions").json()["functions"] if one["name"] == "run_cell"]
    assert names
    seen = visit("cell", lab, name=names[0])
    assert seen["before"] == 5 and len(seen["then"]) == 5 and seen["first"] != seen["then"]
    assert seen["png"]["name"] == "run_cell.png" and seen["png"]["bytes"] > 5000 and seen["sweeps"] == 0


def test_markup_in_titles_helps_and_values_stays_text(lab):
    seen = visit("markup", lab)
    assert seen["ran"] and all(view == {"found": 0, "text": True} for view in seen["views"].values()), seen["views"]


def test_everything_fits_a_phone_has_names_and_shows_its_focus(lab):
    seen = visit("phone", lab)
    assert set(seen["over"].values()) == {0}, seen["over"]
    assert seen["unseen"] == [] and seen["nameless"] == []


@pytest.mark.skipif(not SHOTS, reason="MYELIN_SHOTS names no folder")
def test_pictures_for_the_documentation(make_server):
    server = make_server()
    folder = server.data / "functions"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cells.py", "drawing.py", "typo.py"):
        (folder / name).write_text(textwrap.dedent(OTHERS[name]))
    wrong = CELLS.strip().replace("return {\"t\": t, \"v\": rest +", "return {\"t\": t, \"v\": rest +* ")
    visit("pictures", server, token=token(server, "anna"), example="run_cell", values={"diam": "20", "nhalf": "-20", "gk": "36", "gna": "200"}, wrong=wrong)
