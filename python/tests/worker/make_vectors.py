"""Writes spec/worker-vectors.json: frames and ropes that the C++ and the Python tests both read.

    python python/tests/worker/make_vectors.py        (from the repository's root)

`frames`: `hex` is a whole frame; `from` the side that sends it; `frame` its fields, or `error` why it must be refused.
`ropes`: `hex` is the body of a result, `memfd_hex` the content of the memfd that came with it; `pieces` what it says (kind,
dtype, where, shape, bytes, offset), `json` the document with null for numbers that aren't finite, `json_bare` (where it
differs) with NaN, Infinity, -Infinity; or `error` why the session must end. Numbers are written as Python writes them.
"""

import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from myelin.worker import protocol, rope  # noqa: E402

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "spec", "worker-vectors.json")
NAN, INF = float("nan"), float("inf")


def header(length, kind, flags=0, call=0):
    return struct.pack("<IHHQ", length, kind, flags, call)


def frames():
    good = [
        ("hello", "worker", protocol.HELLO, 0, 0, b'{"protocol":1,"pid":2,"engine":"nest"}'),
        ("go", "server", protocol.GO, 0, 0, b'{"session":"s1","threads":1}'),
        (
            "call",
            "server",
            protocol.CALL,
            0,
            7,
            struct.pack("<I", 17) + b'{"method":"exec"}' + b'{"source":"a = 1"}',
        ),
        ("call without a body", "server", protocol.CALL, 0, 8, struct.pack("<I", 20) + b'{"method":"version"}'),
        ("result", "worker", protocol.RESULT, 0, 7, rope.pack([b"{}"], [])[0]),
        ("result with a memfd", "worker", protocol.RESULT, 1, (1 << 64) - 1, rope.pack([b"1"], [])[0]),
        ("error", "worker", protocol.ERROR, 0, 9, b'{"class":"ValueError","text":"no","kernel":false,"interrupted":false,"traceback":[]}'),
        ("progress", "worker", protocol.PROGRESS, 0, 9, b'{"done":0.4,"time_ms":400.0,"of_ms":1000.0}'),
        ("interrupt", "server", protocol.INTERRUPT, 0, 9, b""),
        ("state", "worker", protocol.STATE, 0, 0, b'{"reset":true}'),
        ("bye", "server", protocol.BYE, 0, 0, b""),
        ("branch, asked for", "server", protocol.BRANCH, 0, 1, b'{"directory":"s_1"}'),
        ("branch, with its descriptors", "server", protocol.BRANCH, 1, 1, b"{}"),
        ("branched", "worker", protocol.BRANCHED, 0, 1, b'{"refused":"open sockets: 7"}'),
        ("follow", "server", protocol.FOLLOW, 0, 0, b'{"recorders":[3]}'),
        ("data", "worker", protocol.DATA, 0, 0, rope.pack([b"{}"], [])[0]),
    ]  # fmt: skip
    out = []
    for name, side, kind, flags, call, body in good:
        out.append(
            {
                "name": name,
                "from": side,
                "hex": (header(len(body), kind, flags, call) + body).hex(),
                "frame": {"length": len(body), "kind": kind, "flags": flags, "call": call, "body_hex": body.hex()},
            }
        )
    bad = [
        ("kind 0", "worker", header(0, 0), "unknown kind"),
        ("kind 14", "worker", header(0, 14), "unknown kind"),
        ("kind 65535", "server", header(0, 65535), "unknown kind"),
        ("unknown flag", "worker", header(0, 4, 2), "unknown flags"),
        ("worker's body over 1 MiB", "worker", header((1 << 20) + 1, 4), "too long"),
        ("server's body over 65 MiB", "server", header((65 << 20) + 1, 3), "too long"),
        ("call from the worker", "worker", header(0, 3), "wrong direction"),
        ("result from the server", "server", header(0, 4), "wrong direction"),
        ("short header", "worker", header(0, 4)[:15], "short"),
        ("short body", "worker", header(5, 4) + b"1234", "short"),
    ]
    for name, side, data, reason in bad:
        out.append({"name": name, "from": side, "hex": data.hex(), "error": reason})
    return out


def piece(kind, dtype, shape, where, size, offset, zero=0, ndim=None):
    ndim = len(shape) if ndim is None else ndim
    return struct.pack("<BBBBIQQ", kind, dtype, ndim, where, zero, size, offset) + struct.pack(f"<{len(shape)}Q", *shape)


def text(size, offset, where=0):
    return piece(0, 0, (), where, size, offset)


def body(pieces, payload=b"", count=None):
    return struct.pack("<I", len(pieces) if count is None else count) + b"".join(pieces) + payload


def one(dtype, shape, values, code):
    """A rope `{"a":ARRAY}` inline."""
    data = struct.pack(f"<{len(values)}{code}", *values)
    payload = b'{"a":' + data + b"}"
    return body([text(5, 0), piece(1, dtype, shape, 0, len(data), 5), text(1, 5 + len(data))], payload)


def ropes():
    good = [
        ("text only", body([text(4, 0)], b"null"), None),
        ("text in two pieces", body([text(3, 0), text(4, 3)], b'{"a":1}'), None),
        ("text beyond ASCII", body([text(8, 0)], '"é\u2028 "'.encode()), None),
        ("i8", one(1, (3,), (-128, 0, 127), "b"), None),
        ("i16", one(2, (2,), (-32768, 32767), "h"), None),
        ("i32", one(3, (2,), (-(2**31), 2**31 - 1), "i"), None),
        ("i64", one(4, (3,), (-(2**63), 2**53 + 1, 2**63 - 1), "q"), None),
        ("u8", one(5, (2,), (0, 255), "B"), None),
        ("u16", one(6, (2,), (0, 65535), "H"), None),
        ("u32", one(7, (2,), (0, 2**32 - 1), "I"), None),
        ("u64", one(8, (2,), (0, 2**64 - 1), "Q"), None),
        ("f32", one(9, (4,), (0.5, -0.0, 16777216.0, 0.25), "f"), None),
        ("f64", one(10, (9,), (1.0, -0.0, 0.1, 0.30000000000000004, 1e22, 1e-07, 1e16, 5e-324, 123456.789), "d"), None),
        ("f64, not finite", one(10, (4,), (1.5, NAN, INF, -INF), "d"), None),
        ("f32, not finite", one(9, (4,), (1.5, NAN, INF, -INF), "f"), None),
        ("bool", one(11, (3,), (True, False, True), "?"), None),
        ("two dimensions", one(3, (2, 3), (1, 2, 3, 4, 5, 6), "i"), None),
        ("three dimensions", one(5, (2, 1, 2), (1, 2, 3, 4), "B"), None),
        ("eight dimensions", one(5, (1, 1, 1, 1, 1, 1, 1, 2), (1, 2), "B"), None),
        ("no values", one(10, (0,), (), "d"), None),
        ("no values in three rows", one(10, (3, 0), (), "d"), None),
        ("no rows", one(10, (0, 3), (), "d"), None),
        (
            "the array is the document",
            body([piece(1, 4, (2,), 0, 16, 0)], struct.pack("<2q", 1, 2)),
            None,
        ),
        (
            "arrays one after the other",
            body(
                [text(1, 0), piece(1, 5, (1,), 0, 1, 1), text(1, 2), piece(1, 5, (2,), 0, 2, 3), text(1, 5)],
                b"[\x01,\x02\x03]",
            ),
            None,
        ),
        (
            "memfd",
            body([text(5, 0), piece(1, 10, (2,), 1, 16, 8), text(1, 5)], b'{"a":}'),
            bytes(8) + struct.pack("<2d", 0.1, 2.0),
        ),
        (
            "text in the memfd",
            body([text(5, 0, 1), piece(1, 4, (1,), 1, 8, 8), text(1, 16, 1)]),
            b'{"a":' + bytes(3) + struct.pack("<q", 7) + b"}",
        ),
        (
            "two pieces share data",
            body([text(1, 0), piece(1, 5, (2,), 0, 2, 3), text(1, 1), piece(1, 5, (2,), 0, 2, 3), text(1, 2)], b"[,]\x05\x06"),
            None,
        ),
    ]  # fmt: skip
    out = []
    for name, data, memfd in good:
        pieces = []
        at = 4
        for _ in range(struct.unpack_from("<I", data)[0]):
            kind, dtype, ndim, where, _, size, offset = struct.unpack_from("<BBBBIQQ", data, at)
            at += 24
            shape = list(struct.unpack_from(f"<{ndim}Q", data, at))
            at += 8 * ndim
            pieces.append(
                {"kind": kind, "dtype": dtype, "where": where, "shape": shape, "bytes": size, "offset": offset}
            )
        entry = {"name": name, "hex": data.hex()}
        if memfd is not None:
            entry["memfd_hex"] = memfd.hex()
        read = rope.unpack(data, memfd)
        entry["pieces"] = pieces
        entry["json"] = rope.to_json(read)
        bare = rope.to_json(read, "bare")
        if bare != entry["json"]:
            entry["json_bare"] = bare
        out.append(entry)
    eight = struct.pack("<q", 1)
    bad = [
        ("empty body", b"", None, "short"),
        ("no pieces", body([]), None, "no pieces"),
        ("more than 65536 pieces", body([], count=65537), None, "too many pieces"),
        ("count without pieces", body([], count=1), None, "short"),
        ("cut in a piece header", body([text(4, 0)], b"null")[:20], None, "short"),
        ("cut in a shape", body([piece(1, 4, (), 0, 8, 0, ndim=2)], b"12345678"), None, "short"),
        ("kind 2", body([piece(2, 0, (), 0, 1, 0)], b"1"), None, "unknown piece kind"),
        ("where 2", body([piece(0, 0, (), 2, 1, 0)], b"1"), None, "unknown place"),
        ("reserved field", body([piece(0, 0, (), 0, 1, 0, zero=1)], b"1"), None, "reserved field"),
        ("text with a dtype", body([piece(0, 4, (), 0, 1, 0)], b"1"), None, "text with a dtype"),
        ("text with a shape", body([piece(0, 0, (1,), 0, 1, 0)], b"1"), None, "text with a shape"),
        ("dtype 0", body([piece(1, 0, (1,), 0, 8, 0)], eight), None, "unknown dtype"),
        ("dtype 12", body([piece(1, 12, (1,), 0, 8, 0)], eight), None, "unknown dtype"),
        ("no dimension", body([piece(1, 4, (), 0, 8, 0)], eight), None, "dimensions"),
        ("nine dimensions", body([piece(1, 4, (1,) * 9, 0, 8, 0)], eight), None, "dimensions"),
        ("shape and bytes disagree", body([piece(1, 4, (2,), 0, 8, 0)], eight), None, "shape and bytes disagree"),
        ("shape overflows 64 bits", body([piece(1, 4, (1 << 62, 1 << 62), 0, 0, 0)], eight), None, "shape and bytes disagree"),
        ("shape overflows to the right bytes", body([piece(1, 4, (1 << 32, 1 << 32), 0, 0, 0)], eight), None, "shape and bytes disagree"),
        ("beyond the payload", body([text(5, 0)], b"null"), None, "out of range"),
        ("offset beyond the payload", body([text(1, 4)], b"null"), None, "out of range"),
        ("offset + bytes overflows", body([text(2, (1 << 64) - 1)], b"null"), None, "out of range"),
        ("memfd piece without a memfd", body([text(4, 0, 1)]), None, "no memfd"),
        ("beyond the memfd", body([text(5, 0, 1)]), b"null", "out of range"),
        ("text is not UTF-8", body([text(3, 0)], b'"\xff"'), None, "not UTF-8"),
    ]  # fmt: skip
    for name, data, memfd, reason in bad:
        entry = {"name": name, "hex": data.hex()}
        if memfd is not None:
            entry["memfd_hex"] = memfd.hex()
        entry["error"] = reason
        out.append(entry)
    return out


def write(path=PATH):
    with open(path, "w") as file:
        file.write('{\n"frames": [\n')
        file.write(",\n".join(json.dumps(entry) for entry in frames()))
        file.write('\n],\n"ropes": [\n')
        file.write(",\n".join(json.dumps(entry) for entry in ropes()))
        file.write("\n]\n}\n")


if __name__ == "__main__":
    write()
