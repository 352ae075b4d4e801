"""Python values as ropes: the text of one JSON document with arrays between its pieces (section 5 of worker-protocol.md).

What becomes what (engines add their own types by `Encoder.hooks`):

    None, bool, int of any size, float, str      themselves; not finite: null, or bare NaN, Infinity, -Infinity
    list, tuple, range, deque, iterator-free     array
    set, frozenset                               array, sorted where the elements can be compared
    dict and other mappings                      object with sorted keys; keys str, int, float, bool, None; other keys: TypeError
    numpy array of numbers or bool               nested arrays; more than 64 values: a piece of the rope
    numpy scalar, 0-d array                      number, bool or text
    complex, arrays of complex                   [re, im], a last axis of 2
    datetime64, datetime, date, time             ISO 8601 text; timedelta, timedelta64: seconds
    bytes, bytearray, memoryview                 base64 text
    Octets                                       array of u8: a piece of the rope however small, numpy or not
    Decimal, UUID, path                          text;  Fraction: number;  enum: its value;  dataclass: object of its fields
    structured array                             object, field name -> array;  masked values: null
    pandas Series, DataFrame                     array; object, column -> array
    anything with __array__ (jax)                as its numpy array
    everything else                              TypeError: "a module can't be returned: …"
"""

import array
import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fcntl
import fractions
import json
import os
import pathlib
import struct
import sys
import types
import uuid

try:
    import orjson
except ImportError:  # pragma: no cover - depends on the environment
    orjson = None

SMALL_VALUES = 64  # arrays up to this many values are written as text
INLINE_ARRAYS = 64 << 10  # array data beyond this, in total, goes to the memfd
INLINE_TEXT = 256 << 10  # text beyond this, in total, goes to the memfd
MAX_ARRAYS = 8192  # more arrays than this in one result: written as text
MAX_PIECES = 65536
ALIGN = 8  # of arrays in the memfd

PIECE = struct.Struct("<BBBBIQQ")
COUNT = struct.Struct("<I")

DTYPES = {
    "i1": 1, "i2": 2, "i4": 3, "i8": 4, "u1": 5, "u2": 6, "u4": 7, "u8": 8, "f4": 9, "f8": 10, "b1": 11,
}  # fmt: skip
SIZES = {1: 1, 2: 2, 3: 4, 4: 8, 5: 1, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 1}
CODES = {1: "b", 2: "h", 3: "i", 4: "q", 5: "B", 6: "H", 7: "I", 8: "Q", 9: "f", 10: "d", 11: "?"}

F_ADD_SEALS = getattr(fcntl, "F_ADD_SEALS", 1033)
SEALS = 1 | 2 | 4 | 8  # seal, shrink, grow, write

ADVICE = "return numbers, text, lists, dicts or arrays"


class RopeError(Exception):
    """A rope that breaks the rules."""


class Octets:
    """Bytes that whoever reads the rope wants as they are: a file's."""

    def __init__(self, data):
        self.view = memoryview(data)


# -- values to text and arrays ----------------------------------------------------------------------------------------


def refuse(value):
    """The TypeError for a value without a JSON form."""
    if isinstance(value, types.ModuleType):
        what = f"the module '{value.__name__}'"
    elif isinstance(value, type):
        what = f"the class '{value.__name__}'"
    elif callable(value) and hasattr(value, "__name__"):
        what = f"the function '{value.__name__}'"
    else:
        name = type(value).__name__
        what = ("an " if name[:1].lower() in "aeiou" else "a ") + f"'{name}'"
        try:
            text = repr(value)
        except Exception:
            text = ""
        if text:
            what += " (" + (text if len(text) <= 80 else text[:77] + "...") + ")"
    return TypeError(f"{what} can't be returned: it has no JSON form; {ADVICE}")


class Encoder:
    """Encodes results. One per session; not thread-safe."""

    def __init__(self):
        self.hooks = []  # (type, function): function(value) -> value nearer to JSON; looked up by exact type, then isinstance
        self._by_type = {}
        mark = "\x02rope:" + uuid.uuid4().hex + "\x03"
        self._mark = mark
        self._marker = json.dumps(mark).encode()
        self._arrays = []
        self._allow = True
        self._numpy = None
        if orjson:
            self._option = orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS

    def encode(self, value, nonfinite="null"):
        """(texts, arrays): n + 1 text pieces as bytes, n arrays (numpy's in C order, little-endian, or memoryviews of bytes). TypeError if
        there's no JSON form."""
        bare = nonfinite == "bare"
        if self._numpy is None:
            self._numpy = sys.modules.get("numpy")
        self._allow = True
        self._arrays = arrays = []
        text = None
        if orjson and not bare:
            try:
                text = orjson.dumps(value, self._default, self._option)
            except TypeError:
                del arrays[:]
        if text is None:
            text = self._slow(value, bare)
        if not arrays:
            return [text], arrays
        texts = text.split(self._marker)
        if len(arrays) > MAX_ARRAYS or len(texts) != len(arrays) + 1:
            self._allow = False
            self._arrays = []
            return [self._slow(value, bare)], []
        self._arrays = []
        return texts, arrays

    def text(self, value, nonfinite="null"):
        """The whole value as JSON text, without pieces."""
        self._allow = False
        try:
            return self._slow(value, nonfinite == "bare")
        finally:
            self._allow = True

    def _slow(self, value, bare):
        if bare:
            try:
                return self._stdlib(value)
            except (TypeError, ValueError, RecursionError):
                del self._arrays[:]
        return self._dump(self._walk(value, bare, 0))

    def _stdlib(self, value):
        return json.dumps(value, default=self._default, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def _dump(value):
        return json.dumps(value, separators=(",", ":")).encode()

    def _walk(self, value, bare, depth):
        """A copy made of plain JSON types only, keys sorted, arrays replaced by the mark in the order they're written."""
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is int:
            return value
        if kind is float:
            return value if bare or value - value == 0 else None
        if depth > 500:
            raise TypeError(f"a value nested deeper than 500 levels can't be returned; {ADVICE}")
        if kind is list or kind is tuple:
            return [self._walk(v, bare, depth + 1) for v in value]
        if isinstance(value, dict):
            return self._object(value, bare, depth)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, enum.Enum):
            return self._walk(value.value, bare, depth + 1)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            value = float(value)
            return value if bare or value - value == 0 else None
        if isinstance(value, (list, tuple)):
            return [self._walk(v, bare, depth + 1) for v in value]
        return self._walk(self._default(value), bare, depth + 1)

    def _object(self, value, bare, depth):
        named = []
        for key, item in value.items():
            named.append((self._key(key), item))
        named.sort(key=lambda pair: pair[0])
        return {key: self._walk(item, bare, depth + 1) for key, item in named}

    def _key(self, key):
        if isinstance(key, str):
            return str.__str__(key)
        if key is None:
            return "null"
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, enum.Enum):
            return self._key(key.value)
        if isinstance(key, int):
            return int.__repr__(key)
        if isinstance(key, float):
            return json.dumps(float(key))
        numpy = self._numpy
        if numpy is not None and isinstance(key, numpy.generic):
            return self._key(key.item())
        raise TypeError(f"a dict with a key of type '{type(key).__name__}' can't be returned: keys must be text or numbers")

    def _default(self, value):
        """One step towards JSON for a value that's none of its own types."""
        kind = type(value)
        numpy = self._numpy
        if numpy is not None:
            if kind is numpy.ndarray:
                return self._array(value)
            if isinstance(value, numpy.generic):
                return self._scalar(value)
        function = self._by_type.get(kind)
        if function is None:
            function = self._find(kind)
            if function is None:
                return self._other(value)
            self._by_type[kind] = function
        return function(value)

    def _find(self, kind):
        for base, function in self.hooks:
            if issubclass(kind, base):
                return function
        for base, function in _PLAIN:
            if issubclass(kind, base):
                return function
        numpy = self._numpy
        if numpy is not None:
            if issubclass(kind, numpy.ma.MaskedArray):
                return lambda value: value.tolist() if value.mask.any() else self._array(value.data)
            if issubclass(kind, numpy.ndarray):
                return lambda value: self._array(value.view(numpy.ndarray))
        if issubclass(kind, array.array):
            return self._machine_array
        if kind is Octets:
            return self._octets
        return None

    def _octets(self, value):
        if not self._allow:
            return value.view.tolist()
        self._arrays.append(value.view)
        return self._mark

    def _machine_array(self, value):
        if self._numpy is not None and value.typecode not in "uw":
            return self._array(self._numpy.array(value))
        return value.tolist()

    def _other(self, value):
        kind = type(value)
        if not isinstance(value, type):
            if dataclasses.is_dataclass(value):
                return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not f.name.startswith("_")}
            module = kind.__module__ or ""
            if module.partition(".")[0] == "pandas":
                if hasattr(value, "columns") and hasattr(value, "to_dict"):
                    return {str(name): value[name] for name in value.columns}
                if hasattr(value, "to_numpy"):
                    return value.to_numpy()
            if isinstance(value, collections.abc.Mapping):
                return dict(value)
            if hasattr(kind, "__array__"):
                if self._numpy is None:
                    import numpy

                    self._numpy = numpy
                converted = self._numpy.asarray(value)
                if type(converted) is self._numpy.ndarray and converted.dtype.kind != "O":
                    return converted
        raise refuse(value)

    def _scalar(self, value):
        kind = value.dtype.kind
        if kind in "iufb":
            if value.dtype.itemsize > 8:
                return float(value)
            return value.item()
        if kind == "c":
            return complex(value)
        if kind in "Mm":
            return _times(self._numpy, self._numpy.asarray(value)).tolist()
        if kind == "V" and value.dtype.names:
            return {name: value[name] for name in value.dtype.names}
        return value.item()

    def _array(self, value):
        """A numpy.ndarray as the mark of a piece, or as lists."""
        numpy = self._numpy
        dtype = value.dtype
        kind = dtype.kind
        if kind == "c":
            part = numpy.float64 if dtype.itemsize >= 16 else numpy.float32
            whole = numpy.complex128 if dtype.itemsize >= 16 else numpy.complex64
            flat = numpy.ascontiguousarray(value, dtype=whole)
            return self._array(flat.view(part).reshape(value.shape + (2,)))
        if kind not in "iufb":
            if kind in "Mm":
                return _times(numpy, value).tolist()
            if dtype.names:
                return {name: value[name] for name in dtype.names}
            return value.tolist()
        if kind == "f":
            if dtype.itemsize > 8:
                value = value.astype(numpy.float64)
            elif dtype.itemsize < 4:
                value = value.astype(numpy.float32)
        if value.size <= SMALL_VALUES or value.ndim > 8 or not self._allow:
            return value.tolist()
        value = numpy.ascontiguousarray(value)
        if value.dtype.byteorder == ">" or (value.dtype.byteorder == "=" and sys.byteorder == "big"):
            value = value.astype(value.dtype.newbyteorder("<"))
        self._arrays.append(value)
        return self._mark


def _times(numpy, value):
    if value.dtype.kind == "m":
        seconds = value / numpy.timedelta64(1, "s")
        return numpy.where(numpy.isnat(value), None, seconds) if numpy.isnat(value).any() else numpy.asarray(seconds)
    text = numpy.datetime_as_string(value)
    missing = numpy.isnat(value)
    return numpy.where(missing, None, text) if missing.any() else numpy.asarray(text)


def _set(value):
    try:
        return sorted(value)
    except TypeError:
        return list(value)


_PLAIN = [
    (enum.Enum, lambda value: value.value),
    (tuple, list),
    (list, list),
    (range, list),
    (set, _set),
    (frozenset, _set),
    (complex, lambda value: [value.real, value.imag]),
    (float, float),
    (int, int),
    (str, lambda value: str.__str__(value)),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(bytes(value)).decode()),
    (collections.deque, list),
    (type({}.keys()), list),
    (type({}.values()), list),
    (type({}.items()), list),
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, lambda value: value.total_seconds()),
    (fractions.Fraction, float),
    ((decimal.Decimal, uuid.UUID, pathlib.PurePath), str),
    (collections.abc.Mapping, dict),
]


# -- text and arrays to bytes -----------------------------------------------------------------------------------------

_ONE = struct.Struct("<IBBBBIQQ")


def pack(texts, arrays, inline=False):
    """(body, fd): the body of a result frame and, if data went there, the memfd (the caller closes it), else None. `inline`: never
    to a memfd; the caller knows that it is small."""
    if not arrays and len(texts[0]) <= INLINE_TEXT:
        return _ONE.pack(1, 0, 0, 0, 0, 0, len(texts[0]), 0) + texts[0], None

    pieces = []  # (kind, dtype, shape, data, bytes)
    array_bytes = text_bytes = header = 0
    for i, text in enumerate(texts):
        if i:
            value = arrays[i - 1]
            dtype = DTYPES["u1" if type(value) is memoryview else value.dtype.str[1:]]
            pieces.append((1, dtype, value.shape, value, value.nbytes))
            array_bytes += value.nbytes
            header += 24 + 8 * value.ndim
        if text:
            pieces.append((0, 0, (), text, len(text)))
            text_bytes += len(text)
            header += 24
    out_arrays = not inline and array_bytes > INLINE_ARRAYS
    out_text = not inline and text_bytes > INLINE_TEXT or header + text_bytes > 900 << 10
    within = []
    outside = []
    inline_at = outside_at = 0
    head = [COUNT.pack(len(pieces))]
    for kind, dtype, shape, data, size in pieces:
        if out_arrays if kind else out_text:
            if kind and outside_at % ALIGN:
                pad = ALIGN - outside_at % ALIGN
                outside.append(bytes(pad))
                outside_at += pad
            head.append(PIECE.pack(kind, dtype, len(shape), 1, 0, size, outside_at))
            outside.append(data)
            outside_at += size
        else:
            head.append(PIECE.pack(kind, dtype, len(shape), 0, 0, size, inline_at))
            within.append(data if kind == 0 else data.tobytes())
            inline_at += size
        if shape:
            head.append(struct.pack(f"<{len(shape)}Q", *shape))
    body = b"".join(head + within)
    return body, (_memfd(outside) if outside else None)


def _memfd(parts):
    fd = os.memfd_create("myelin-result", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            view = memoryview(part)
            if view.nbytes != len(view) or view.format != "B":
                view = view.cast("B")
            while view:
                view = view[os.write(fd, view) :]
        seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def seal(fd):
    """Nobody changes a memfd any more."""
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)


def pack_file(before, fd, size, after):
    """The body of a rope that is a text, a sealed memfd's bytes as an array of u8, and a text."""
    pieces = PIECE.pack(0, 0, 0, 0, 0, len(before), 0) + PIECE.pack(1, DTYPES["u1"], 1, 1, 0, size, 0) + struct.pack("<Q", size)
    return COUNT.pack(3) + pieces + PIECE.pack(0, 0, 0, 0, 0, len(after), len(before)) + before + after


# -- bytes to pieces (tests, and to check the vectors) ----------------------------------------------------------------


def unpack(body, memfd=None):
    """The pieces of a rope: ("text", str) or ("array", dtype code, shape, list of values). Raises RopeError."""
    if len(body) < 4:
        raise RopeError("short count")
    (count,) = COUNT.unpack_from(body)
    if count == 0:
        raise RopeError("no pieces")
    if count > MAX_PIECES:
        raise RopeError("too many pieces")
    at = 4
    heads = []
    for _ in range(count):
        if len(body) < at + PIECE.size:
            raise RopeError("short piece header")
        kind, dtype, ndim, where, zero, size, offset = PIECE.unpack_from(body, at)
        at += PIECE.size
        if kind not in (0, 1):
            raise RopeError("unknown piece kind")
        if where not in (0, 1):
            raise RopeError("unknown place")
        if zero:
            raise RopeError("reserved field is not zero")
        if kind == 0 and (dtype or ndim):
            raise RopeError("text with dtype or shape")
        if kind == 1 and dtype not in SIZES:
            raise RopeError("unknown dtype")
        if kind == 1 and not 1 <= ndim <= 8:
            raise RopeError("array of 0 or more than 8 dimensions")
        if len(body) < at + 8 * ndim:
            raise RopeError("short shape")
        shape = struct.unpack_from(f"<{ndim}Q", body, at)
        at += 8 * ndim
        if kind == 1:
            product = SIZES[dtype]
            for length in shape:
                product *= length
            if product != size:
                raise RopeError("shape and bytes disagree")
        heads.append((kind, dtype, shape, where, size, offset))
    payload = body[at:]
    pieces = []
    for kind, dtype, shape, where, size, offset in heads:
        if where == 1 and memfd is None:
            raise RopeError("memfd piece without memfd")
        data = memfd if where else payload
        if offset + size > len(data):
            raise RopeError("data out of range")
        data = bytes(data[offset : offset + size])
        if kind == 0:
            try:
                pieces.append(("text", data.decode()))
            except UnicodeDecodeError:
                raise RopeError("text is not UTF-8") from None
        else:
            values = list(struct.unpack("<%d%s" % (size // SIZES[dtype], CODES[dtype]), data))
            pieces.append(("array", dtype, shape, values))
    return pieces


def to_json(pieces, nonfinite="null"):
    """The JSON text a server makes of the pieces. f32 values are written as the double of the same value."""
    out = []
    for piece in pieces:
        if piece[0] == "text":
            out.append(piece[1])
            continue
        values = piece[3]
        if nonfinite == "null" and piece[1] in (9, 10):
            values = [v if v - v == 0 else None for v in values]
        out.append(json.dumps(_nest(values, piece[2]), separators=(",", ":")))
    return "".join(out)


def _nest(values, shape):
    if len(shape) == 1:
        return values
    if not all(shape):
        return _empty(shape)
    step = len(values) // shape[0]
    return [_nest(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _empty(shape):
    return [] if len(shape) == 1 else [_empty(shape[1:]) for _ in range(shape[0])]
