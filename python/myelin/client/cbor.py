"""Decoder of the CBOR (RFC 8949) that a Myelin server sends, with the typed arrays of RFC 8746.

Typed arrays become numpy arrays (read-only views of the answer, no copy) where numpy is installed, else ``array.array``;
a multi-dimensional one without numpy becomes nested lists. Malformed input raises ``ValueError``, never anything else.
"""

import array
import struct
import sys

try:
    import numpy
except ImportError:  # pragma: no cover - the fallback has its own test
    numpy = None

__all__ = ["loads"]

_MAX_DEPTH = 256

# RFC 8746, section 2.1: tag -> (numpy dtype, array typecode, big endian)
_TYPED = {
    64: ("u1", "B", False), 65: (">u2", "H", True), 66: (">u4", "I", True), 67: (">u8", "Q", True),
    68: ("u1", "B", False), 69: ("<u2", "H", False), 70: ("<u4", "I", False), 71: ("<u8", "Q", False),
    72: ("i1", "b", False), 73: (">i2", "h", True), 74: (">i4", "i", True), 75: (">i8", "q", True),
    77: ("<i2", "h", False), 78: ("<i4", "i", False), 79: ("<i8", "q", False),
    81: (">f4", "f", True), 82: (">f8", "d", True), 85: ("<f4", "f", False), 86: ("<f8", "d", False),
}
_NUMPY_ONLY = {80: ">f2", 84: "<f2"}
_BREAK = object()


def loads(data):
    """The value that ``data`` (bytes) holds. All of it must be one value."""
    decoder = _Decoder(data)
    try:
        value = decoder.value(0)
    except (IndexError, struct.error, OverflowError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError("malformed CBOR at byte %d: %s" % (decoder.at, error)) from None
    if value is _BREAK:
        raise ValueError("malformed CBOR: a break outside of anything")
    if decoder.at != len(decoder.data):
        raise ValueError("malformed CBOR: %d bytes after the value" % (len(decoder.data) - decoder.at))
    return value


class _Decoder:
    def __init__(self, data):
        self.data = memoryview(data).cast("B")
        self.at = 0

    def take(self, size):
        end = self.at + size
        if end > len(self.data):
            raise ValueError("malformed CBOR: cut off at byte %d" % len(self.data))
        piece = self.data[self.at:end]
        self.at = end
        return piece

    def head(self):
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info, info
        if info <= 27:
            return major, info, int.from_bytes(self.take(1 << (info - 24)), "big")
        if info == 31 and major in (2, 3, 4, 5, 7):
            return major, info, None
        raise ValueError("malformed CBOR: byte 0x%02x at %d" % (first, self.at - 1))

    def value(self, depth):
        if depth > _MAX_DEPTH:
            raise ValueError("malformed CBOR: nested deeper than %d" % _MAX_DEPTH)
        major, info, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major in (2, 3):
            if argument is None:
                piece = b"".join(self.chunks(major))
            else:
                piece = self.take(argument)
            return bytes(piece) if major == 2 else str(piece, "utf-8")
        if major == 4:
            if argument is None:
                return list(iter(lambda: self.value(depth + 1), _BREAK))
            if argument > len(self.data) - self.at:
                raise ValueError("malformed CBOR: an array longer than the data")
            return [self.item(depth) for _ in range(argument)]
        if major == 5:
            return self.map(argument, depth)
        if major == 6:
            return self.tagged(argument, depth)
        return self.simple(info, argument)

    def item(self, depth):
        value = self.value(depth + 1)
        if value is _BREAK:
            raise ValueError("malformed CBOR: unexpected break")
        return value

    def chunks(self, major):
        while True:
            inner, _, size = self.head()
            if inner == 7 and size is None:
                return
            if inner != major or size is None:
                raise ValueError("malformed CBOR: wrong chunk in a string")
            yield bytes(self.take(size))

    def map(self, count, depth):
        result = {}
        while count is None or count > 0:
            key = self.value(depth + 1)
            if key is _BREAK:
                if count is None:
                    break
                raise ValueError("malformed CBOR: unexpected break")
            result[key] = self.item(depth)
            if count is not None:
                count -= 1
        return result

    def simple(self, info, argument):
        if info == 31:
            return _BREAK
        if info in (20, 21):
            return info == 21
        if info in (22, 23):
            return None
        if info == 25:
            return struct.unpack(">e", argument.to_bytes(2, "big"))[0]
        if info == 26:
            return struct.unpack(">f", argument.to_bytes(4, "big"))[0]
        if info == 27:
            return struct.unpack(">d", argument.to_bytes(8, "big"))[0]
        raise ValueError("malformed CBOR: simple value %d" % argument)

    def tagged(self, tag, depth):
        if tag in _TYPED or tag in _NUMPY_ONLY:
            major, _, size = self.head()
            if major != 2 or size is None:
                raise ValueError("malformed CBOR: a typed array without its bytes")
            return _typed(tag, self.take(size))
        value = self.item(depth)
        if tag in (2, 3) and isinstance(value, bytes):
            number = int.from_bytes(value, "big")
            return number if tag == 2 else -1 - number
        if tag in (40, 1040):
            return _shaped(value, "C" if tag == 40 else "F")
        return value


def _typed(tag, data):
    if numpy is not None:
        return numpy.frombuffer(data, dtype=_NUMPY_ONLY.get(tag) or _TYPED[tag][0])
    if tag in _NUMPY_ONLY:
        return list(struct.unpack((">" if tag == 80 else "<") + "%de" % (len(data) // 2), data))
    _, code, big = _TYPED[tag]
    result = array.array(code)
    result.frombytes(bytes(data))
    if result.itemsize > 1 and big != (sys.byteorder == "big"):
        result.byteswap()
    return result


def _shaped(value, order):
    if not (isinstance(value, list) and len(value) == 2):
        raise ValueError("malformed CBOR: a multi-dimensional array is a pair of shape and values")
    shape, flat = [int(n) for n in value[0]], value[1]
    if numpy is not None:
        return numpy.asarray(flat).reshape(shape, order=order)
    size = 1
    for n in shape:
        size *= n
    if size != len(flat) or any(n < 0 for n in shape):
        raise ValueError("malformed CBOR: the shape does not fit the values")
    if order == "F":
        strides, step = [], 1
        for n in shape:
            strides.append(step)
            step *= n
    else:
        strides, step = [], 1
        for n in reversed(shape):
            strides.insert(0, step)
            step *= n

    def nest(axis, offset):
        if axis == len(shape):
            return flat[offset]
        return [nest(axis + 1, offset + i * strides[axis]) for i in range(shape[axis])]

    return nest(0, 0)
