"""Recorded exchanges with NEST Server 3.10: how they are grouped, sent again, and compared.

Not compared, because no client can depend on it: Server, Date, Content-Length, Connection; the wording of HTML pages; the order of
methods in Allow; the line number of an error in /api (a line of the original server's own source). Everything else is.
"""

import json
import math
import pathlib
import re

RECORDS = [json.loads(line) for line in
           (pathlib.Path(__file__).parent.parent / "data" / "nest-server-exchanges.jsonl").read_text().splitlines()]

for _record in RECORDS:
    if _record["n"] == 217:  # 5 MB, cut off in the record; its length is recorded
        _record["response_body"] = '{"stdout":"%s\\n"}\n' % ("x" * 5_000_000)
        assert len(_record["response_body"]) == int(_record["response_headers"]["Content-Length"])

# The recorded servers, as environments. Both servers are started with these, which also tests that they mean the same.
GROUPS = {
    "A": ("DISABLE_AUTH=1 ENABLE_EXEC_CALL=1 MODULES='import nest; import numpy as np' (RestrictedPython on)",
          {"NEST_SERVER_DISABLE_AUTH": "1", "NEST_SERVER_ENABLE_EXEC_CALL": "1",
           "NEST_SERVER_MODULES": "import nest; import numpy as np"}),
    "B": ("ACCESS_TOKEN=secret (exec disabled)",
          {"NEST_SERVER_ACCESS_TOKEN": "secret", "NEST_SERVER_ENABLE_EXEC_CALL": "false"}),
    "C": ("DISABLE_AUTH=1 ENABLE_EXEC_CALL=1 DISABLE_RESTRICTION=1 CORS_ORIGINS=* MODULES='import nest; import numpy as np; "
          "from numpy import random'",
          {"NEST_SERVER_DISABLE_AUTH": "1", "NEST_SERVER_ENABLE_EXEC_CALL": "1", "NEST_SERVER_DISABLE_RESTRICTION": "1",
           "NEST_SERVER_CORS_ORIGINS": "*",
           "NEST_SERVER_MODULES": "import nest; import numpy as np; from numpy import random"}),
    "D": ("DISABLE_AUTH=1 ENABLE_EXEC_CALL=1 DISABLE_RESTRICTION=1, -t 10",
          {"NEST_SERVER_DISABLE_AUTH": "1", "NEST_SERVER_ENABLE_EXEC_CALL": "1", "NEST_SERVER_DISABLE_RESTRICTION": "1",
           "NEST_SERVER_MODULES": "import nest; import numpy as np", "NEST_SERVER_TIMEOUT": "10"}),
}


def records(group):
    return [r for r in RECORDS if r["server"] == GROUPS[group][0]]


_RESET = ("GET", "/api/ResetKernel", None)


def _post(name, content):
    return "POST", "/api/" + name, content


# The record is an excerpt: some exchanges that changed the kernel are not in it. These calls, made just before the record of
# that number, put the kernel into the state in which it was recorded, whatever the calls before it did.
BEFORE = {
    65: [_RESET],
    75: [("GET", "/api/spatial", None)],  # the original loads that module at its first use, and errs on its absence before
    77: [_RESET, _post("Create", ["iaf_psc_alpha", 7])],
    81: [_RESET],
    85: [_post("Create", {"model": "multimeter", "params": {"record_from": ["V_m"]}})],
    90: [_RESET, _post("Create", {"model": "poisson_generator", "params": {"rate": 65000.0}}),
         _post("Create", {"model": "iaf_psc_alpha", "n": 2}), _post("Create", {"model": "spike_recorder"}),
         _post("Create", {"model": "multimeter", "params": {"record_from": ["V_m"]}}),
         _post("Connect", {"pre": [1], "post": [2, 3], "syn_spec": {"weight": 10.0}}), _post("Connect", [[2, 3], [4]]),
         _post("Connect", [[5], [2]]), _post("Connect", {"pre": [2], "post": [3]})],
    146: [_post("SetKernelStatus", [{"rng_seed": 5}])],
    189: [_RESET],
    190: [_RESET, _post("Create", ["iaf_psc_alpha", 3])],
    241: [_RESET],
    242: [_RESET],
    243: [_RESET],
}


def prepare(client, number):
    for method, path, content in BEFORE.get(number, ()):
        answer = client.request(method, path, json_body=content) if content is not None else client.request(method, path)
        assert answer.status == 200 or path == "/api/spatial", (number, path, answer)


def send(client, record, headers=None):
    return client.request(record["method"], record["path"], body=record["body"],
                          headers=dict(record["headers"], **(headers or {})))


_LINE = re.compile(r" at line \d+(?=:)")


def _is_json(content_type):
    return (content_type or "").partition(";")[0].strip() == "application/json"


def canonical(value):
    """JSON values made comparable: 1 and 1.0 differ, NaN equals NaN."""
    if isinstance(value, dict):
        # memory_size is that of the answering process, another one each time
        return {key: canonical(item) if key != "memory_size" else "a number" for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value)
    if isinstance(value, str):
        return re.sub(r"^.*(?=/lib/python3)", "<venv>", value) if value.endswith("/site-packages/nest/__init__.py") else value
    return (type(value).__name__, value)


def view(path, status, headers, body):
    """What is compared of an answer."""
    headers = {name.lower(): value for name, value in headers.items()}
    content_type = headers.get("content-type")
    seen = {"status": status}
    for name in ("access-control-allow-origin", "access-control-allow-headers", "access-control-allow-methods",
                 "access-control-allow-credentials", "access-control-max-age"):
        if name in headers:
            seen[name] = headers[name]
    if "access-control-allow-origin" in headers:
        seen["vary"] = "origin" in headers.get("vary", "").lower()
    if "allow" in headers:
        seen["allow"] = sorted(method.strip() for method in headers["allow"].split(","))
    if body and _is_json(content_type):
        value = json.loads(body)
        if status == 400 and path.startswith("/api") and isinstance(value, dict) and "message" in value:
            value = dict(value, message=_LINE.sub("", value["message"], count=1))
            value.pop("lineNumber", None)
        seen["json"] = canonical(value)
    elif body:
        seen["type"] = (content_type or "").lower()
        if seen["type"].startswith("text/html") and not body.lstrip().startswith("<"):
            seen["text"] = body
    return seen


def recorded_view(record):
    return view(record["path"], record["status"], record["response_headers"] or {}, record["response_body"] or "")


def answer_view(record, answer):
    return view(record["path"], answer.status, answer.headers, answer.text)


def same(wanted, got):
    """"<dir>" in a recorded value stands for any text."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(same(wanted[k], got[k]) for k in wanted)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(same, wanted, got))
    return wanted == got or (wanted == "<dir>" and isinstance(got, str))
