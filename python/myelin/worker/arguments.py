"""Arguments of a call, read from the request as NEST Server reads them.

Looked at in this order, the first hit wins:

1. JSON, by content type: non-empty text: one positional argument; array: positional; object: keywords, of which `args` (array)
   is taken out as positional; null, numbers, booleans, "": no arguments.
2. A form (urlencoded or multipart): with a field `args`, all its values are positional, else keywords (first value per name).
3. The query, in the same way. Values of forms and queries are text.
"""

import json
import re
from urllib.parse import parse_qsl

try:
    import orjson
except ImportError:  # pragma: no cover - depends on the environment
    orjson = None

_JSON_TYPE = re.compile(r"application/(?:[^;/\s]+\+)?json\s*$", re.IGNORECASE)
_NONE = ((), {})


def parse(content_type, query, body):
    """(args, kwargs) of a request. ValueError (of json) if a JSON body isn't JSON: servers refuse that before."""
    if content_type:
        if content_type == "application/json":
            return from_json(body)
        kind, _, parameters = content_type.partition(";")
        kind = kind.strip().lower()
        if _JSON_TYPE.match(kind):
            return from_json(body)
        fields = None
        if kind == "application/x-www-form-urlencoded":
            fields = parse_qsl(bytes(body).decode("utf-8", "replace"), keep_blank_values=True)
        elif kind == "multipart/form-data":
            fields = _multipart(content_type, body)
        if fields:
            return _fields(fields)
    if query:
        return _fields(parse_qsl(query, keep_blank_values=True))
    return _NONE


def loads(body):
    """JSON, also with NaN, Infinity and numbers of any size."""
    if orjson is not None:
        try:
            value = orjson.loads(body)
        except ValueError:
            return json.loads(bytes(body).decode("utf-8-sig"))
        return value if _exact(body) else json.loads(bytes(body))
    return json.loads(bytes(body).decode("utf-8-sig"))


_LONG = re.compile(rb"[0-9]{19}")


def _exact(body):
    # orjson reads integers beyond 64 bits as floats
    return len(body) < 19 or _LONG.search(body) is None


def from_json(body):
    value = loads(body)
    kind = type(value)
    if kind is dict:
        if "args" in value:
            args = value["args"]
            if isinstance(args, list):
                del value["args"]
                return args, value
            if args is None:
                del value["args"]
            else:
                del value["args"]
                return [args], value
        return _NONE[0], value
    if kind is list:
        return value, {}
    if kind is str and value:
        return [value], {}
    return (), {}


def _fields(fields):
    positional = [value for name, value in fields if name == "args"]
    if positional:
        return positional, {}
    keywords = {}
    for name, value in fields:
        keywords.setdefault(name, value)
    return (), keywords


def _multipart(content_type, body):
    from email.parser import BytesParser
    from email.policy import HTTP

    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + bytes(body))
    if not message.is_multipart():
        return []
    fields = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name is None or part.get_filename() is not None:
            continue
        data = part.get_payload(decode=True) or b""
        fields.append((name, data.decode("utf-8", "replace")))
    return fields
