"""Where Myelin answers otherwise than NEST Server 3.10, on purpose: record number → why, and what it answers instead.

The tests hold it to both sides: an answer that differs and is not listed fails; a listed one that does not differ, or is not the
one that is promised here, fails too. `python tests/compat/differences.py` prints docs/nest-server-differences.md.
"""

import json
import pathlib
import re


class Expect:
    """An expectation of an answer, and how it is said in the documentation."""

    def __init__(self, text, check):
        self.text, self.check = text, check


def _json(answer, status):
    assert answer.status == status, "expected status %s: %r" % (status, answer)
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    return json.loads(answer.text)


def value(wanted):
    """200 with this JSON."""
    def check(answer):
        got = _json(answer, 200)
        assert got == wanted, got
    return Expect("`%s`" % json.dumps(wanted), check)


def accepted(text, predicate):
    def check(answer):
        got = _json(answer, 200)
        assert predicate(got), got
    return Expect(text, check)


def error(name, line=None, contains=""):
    """400 with class, line and text in NEST Server's form."""
    def check(answer):
        got = _json(answer, 400)
        assert re.match(r"(?:%s)( at line \d+)?:" % name, got["message"]), got
        assert contains in got["message"], got
        if line is not None:
            assert got["lineNumber"] == line and " at line %d:" % line in got["message"], got
    return Expect("400 `%s%s: …%s`" % (name.replace("\\w+", "<class>").replace("\\", ""), " at line %d" % line if line else "", contains), check)


def kernel_error(name, line=None, contains=""):
    return error(name + r" \(NESTError\)", line, contains)


def refused(text="400 with the reason"):
    def check(answer):
        assert _json(answer, 400)["message"]
    return Expect(text, check)


def never_500(text):
    def check(answer):
        assert answer.status in (200, 400), answer
        json.loads(answer.text)
    return Expect(text, check)


def header_absent(name):
    def check(answer):
        assert answer.status == 200 and name not in answer.headers, answer.headers
    return Expect("200 without %s" % name, check)


def lost_or_memory():
    def check(answer):
        message = _json(answer, 400)["message"]
        assert message.startswith(("KernelLost: ", "MemoryError")), message
    return Expect("400 `MemoryError …` or `KernelLost: …`, which names the limit", check)


def starts(text):
    def check(answer):
        message = _json(answer, 400)["message"]
        assert message.startswith(text), message
    return Expect("400 `%s…`" % text, check)


KERNEL = "A kernel error is a 400 with its class and text; the original answers an opaque 500 page."
STATUS = "`GetStatus` and `SetStatus` take ids, by `nodes`, `nodes_or_conns` or position, as they did up to 3.9 and as the NEST " \
         "documentation shows them."
PYTHON = "Scripts are ordinary Python: the sandbox is the process, not a reduced language."
IMPORT = "Imports import; the original comments out every line that begins with `import` or `from`."
LINE = "The line is that of the script, not of a file of the server or of a library."
UNSERIALISABLE = "What has no JSON form is refused with the reason instead of a 500 page."
IDS = "Ids are taken wherever NEST takes nodes."
STDOUT = "`stdout` is exactly what the script printed, with the final newline, in every mode."
DEAD = "A call that ends the process says so; the kernel is never replaced silently. `ResetKernel` starts a fresh one."
MEMORY = "Memory is limited per session, and running into the limit says so. Other users do not notice."

NONFINITE = "NaN and infinities are `null` in JSON, which has no others. `nonfinite = \"bare\"` or `Accept: " \
            "application/json;nonfinite=bare` gives them as the original does; CBOR keeps them."
UNDERSCORE = "Names that begin with an underscore are the module's inside (`__file__` tells where it is installed)."
_BARE = accepted("the infinities are `null`", lambda v: v["max_update_time"] is v["min_update_time"] is v["update_time_limit"] is None
                 and v["resolution"] == 0.1)

DIFFERENCES = {
    11: ("`Authorization: Bearer` is accepted beside `NESTServerAuth`.", accepted("200", lambda v: v["nest"])),
    19: ("CORS patterns are anchored at both ends: `http://localhost:*` does not admit `http://localhost.evil.com`.",
         header_absent("access-control-allow-origin")),
    34: (NONFINITE, _BARE),
    38: (NONFINITE, _BARE),
    39: (NONFINITE, _BARE),
    46: (UNDERSCORE, error("AttributeError", contains="__name__")),
    47: (UNDERSCORE, error("AttributeError", contains="__file__")),
    51: (UNSERIALISABLE, refused()),
    69: (KERNEL, kernel_error("UnknownModelName", contains="foo is not a known model name")),
    70: (KERNEL, kernel_error("UnaccessedDictionaryEntry", contains="foo")),
    74: (KERNEL, kernel_error("BadProperty")),
    75: ("Positions are taken as coordinates.", accepted("two ids", lambda v: len(v) == 2)),
    89: (IDS + " One id needs no array.", value(None)),
    90: (KERNEL, kernel_error("UnknownNode", contains="99")),
    91: (KERNEL, kernel_error("BadProperty", contains="sorted")),
    93: (KERNEL, kernel_error("BadProperty", contains="nope")),
    101: (STATUS, value([[-70.0, 2.0], [-70.0, 2.0]])),
    102: (STATUS, accepted("one object", lambda v: len(v) == 1 and v[0]["model"] == "iaf_psc_alpha")),
    103: (STATUS + " (A query is text, of which the id is read, or it is refused.)", never_500("200 or 400")),
    105: (STATUS, value(None)),
    106: (STATUS, value(None)),
    107: (STATUS, kernel_error("UnaccessedDictionaryEntry", contains="foo")),
    113: (KERNEL, kernel_error("BadParameter", contains="negative")),
    114: (KERNEL, kernel_error(r"\w+")),
    115: (STATUS, accepted("the events", lambda v: len(v) == 1 and len(v[0]["senders"]) == len(v[0]["times"]))),
    117: (STATUS, accepted("`[[n, [\"V_m\"]]]`", lambda v: len(v) == 1 and isinstance(v[0][0], int) and v[0][1] == ["V_m"])),
    123: (NONFINITE, accepted("`V_min` is `null`", lambda v: v["V_min"] is None and v["V_th"] == -55.0)),
    126: (KERNEL, kernel_error("KernelException", contains="Nodes have already been created")),
    127: ("`SetKernelStatus` takes keywords beside an object.", value(None)),
    133: ("A range is an array.", value([0])),
    134: (KERNEL, kernel_error(r"\w+")),
    135: (UNSERIALISABLE, never_500("400 with the reason, or its JSON form")),
    138: (KERNEL, kernel_error("LayerExpected")),
    139: (IDS, refused()),
    154: (LINE, error("IndexError", 2)),
    157: (IMPORT, accepted("the working directory", lambda v: isinstance(v["data"], str))),
    158: (IMPORT, accepted("the working directory", lambda v: isinstance(v["data"], str))),
    159: (IMPORT, value({"data": 5})),
    161: (PYTHON + " (A module has no JSON form.)", refused()),
    162: (PYTHON + " (A class has no JSON form.)", refused()),
    163: (PYTHON + " (An open file has no JSON form.)", refused()),
    165: (PYTHON, value({"data": 2})),
    166: (PYTHON, value({"data": {"a": 2}})),
    167: (PYTHON, value({"data": 1})),
    169: (PYTHON, value({"data": ["1"]})),
    170: (PYTHON, value({"data": {"x": 1}})),
    173: (PYTHON, accepted("all numbers", lambda v: v["data"] == list(range(1001)))),
    177: ("An exception without a text is a 400 too.", error("Exception", 1)),
    181: (PYTHON, value({"data": 5})),
    183: (UNSERIALISABLE, refused()),
    185: (UNSERIALISABLE, never_500("400 with the reason, or its JSON form")),
    186: (UNSERIALISABLE, never_500("400 with the reason, or its JSON form")),
    187: (PYTHON, error("FileNotFoundError", 1)),
    189: (PYTHON, value({"data": 0.2})),
    190: (PYTHON, accepted("connections, weights and one connection",
                           lambda v: v["data"]["w"] == [1.0] * 4 and v["data"]["cc"]["source"] == 4)),
    191: (KERNEL, kernel_error("UnknownModelName", 1, "foo is not a known model name")),
    193: (KERNEL, kernel_error("UnknownNode", 2)),
    194: (NONFINITE,
          value({"data": {"a": [0, 1, 2, 3, 4], "b": 1.5, "c": [1.0, None], "d": None, "e": True, "f": 3}})),
    197: (PYTHON, value({"data": [1, 2]})),
    198: (UNSERIALISABLE, never_500("400 with the reason, or its JSON form")),
    205: ("`source` must be text, and the answer says so.", refused()),
    215: (UNSERIALISABLE, refused()),
    221: (IMPORT, value({"data": 3.141592653589793})),
    222: (STDOUT, value({"data": [2, 3], "stdout": "hi\n"})),
    223: (KERNEL, kernel_error("UnknownModelName", 1, "foo is not a known model name")),
    225: (STDOUT, value({"stdout": "out\n"})),
    226: ("`exit()` ends the script, not the kernel.", never_500("400 `SystemExit …`")),
    229: ("`KeyboardInterrupt` ends the script, not the kernel.", refused()),
    234: (STDOUT, value({"stdout": "ok\n"})),
    235: ("An exception without a text is a 400 too.", error("AssertionError", 1)),
    238: ("A call beyond the deadline (`-t`) is interrupted and says so. Without `-t` there is no deadline.", refused()),
    239: (DEAD, starts("KernelLost: ")),
    241: (MEMORY, lost_or_memory()),
    242: (MEMORY, lost_or_memory()),
    243: (MEMORY, lost_or_memory()),
}

GENERAL = """\
- The line number of an error in `/api` is left out or another: in the original it is a line of the server's own source. In
  `/exec` it is the line of the script, and is compared.
- Pages in HTML (404, 405, disabled routes) have the same status and type; their wording may say more.
- Text beyond ASCII is written as UTF-8, where the original writes `\\uXXXX`; to a JSON parser they are the same.
- Connections are kept open, where the original closes each one, and long answers come in chunks.
- `Server`, `Date` and the order of methods in `Allow` are this server's own.
- `/exec` is on for whoever holds a token, `NEST_SERVER_ENABLE_EXEC_CALL=false` turns it off. `NEST_SERVER_DISABLE_RESTRICTION` does
  nothing, as there is no restriction to disable.
- Each token has a kernel of its own. Further kernels: `/s/<name>/api/…`, `/s/<name>/exec`.
- A call has no deadline unless `-t`, `NEST_SERVER_TIMEOUT` or `call_deadline_s` sets one; the original ends the kernel after 30 s."""


def render():
    import exchange  # beside this file

    by_number = {r["n"]: r for r in exchange.RECORDS}
    lines = ["# Differences from NEST Server 3.10", "",
             "Every recorded exchange with NEST Server 3.10 (`tests/data/nest-server-exchanges.jsonl`) is sent to Myelin by a test, and to",
             "the real server by another. Answers are the same but for those listed here, each with its reason.", "",
             "This file is made by `tests/compat/differences.py`; a test compares them.", "",
             "## In general", "", GENERAL, "", "## One by one", "",
             "| # | request | NEST Server 3.10 | Myelin | why |", "|---|---|---|---|---|"]

    def cell(text, limit=90):
        text = text.replace("\n", "⏎").replace("|", "\\|")
        return text if len(text) <= limit else text[:limit] + "…"

    for number, (reason, expect) in sorted(DIFFERENCES.items()):
        record = by_number[number]
        request = record["method"] + " " + record["path"]
        if record["body"]:
            request += " " + record["body"]
        elif "Authorization" in record["headers"] or "Origin" in record["headers"]:
            request += " " + " ".join("%s: %s" % h for h in record["headers"].items() if h[0] != "NESTServerAuth")
        was = str(record["status"]) if record["status"] else "connection dropped"
        if record["status"] and not record["response_body"].lstrip().startswith("<"):
            was += " `%s`" % cell(record["response_body"].strip(), 70)
        elif record["status"]:
            was += " page"
        lines.append("| %d | `%s` | %s | %s | %s |" % (number, cell(request), was, expect.text.replace("|", "\\|"), reason))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    print(render(), end="")
