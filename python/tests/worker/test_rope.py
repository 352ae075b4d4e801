import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import os
import pathlib
import random
import sys
import unittest
import unittest.mock
import uuid

import harness
from myelin.worker import rope

try:
    import numpy
except ImportError:
    numpy = None

assert harness


def read(fd):
    if fd is None:
        return None
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    seals = __import__("fcntl").fcntl(fd, 1034)
    assert seals & 2, "not sealed against shrinking"
    os.close(fd)
    return data


def through(value, nonfinite="null", encoder=None):
    encoder = encoder or rope.Encoder()
    body, fd = rope.pack(*encoder.encode(value, nonfinite))
    assert len(body) <= 1 << 20
    return json.loads(rope.to_json(rope.unpack(body, read(fd)), nonfinite))


def plain(value, bare=False):
    """The value as JSON types, written independently of the encoder."""
    if isinstance(value, dict):
        return {str(k): plain(v, bare) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, bare) for v in value]
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return plain(value.tolist(), bare)
    if isinstance(value, float) and not math.isfinite(value) and not bare:
        return None
    return value


class Values(unittest.TestCase):
    def check(self, value, expected):
        for both in (True, False):
            saved = rope.orjson
            try:
                if not both:
                    rope.orjson = None
                self.assertEqual(through(value), expected)
            finally:
                rope.orjson = saved

    def test_plain_types(self):
        class Colour(enum.Enum):
            RED = 3

        @dataclasses.dataclass
        class Point:
            x: float
            y: list

        Pair = collections.namedtuple("Pair", "a b")
        self.check(None, None)
        self.check({"b": 1, "a": [True, None, "é\u2028<"]}, {"a": [True, None, "é\u2028<"], "b": 1})
        self.check({2: 2, None: 3, 1.5: 4, True: 5}, {"true": 5, "null": 3, "1.5": 4, "2": 2})
        self.check([2**64, -(2**70), 10**25], [2**64, -(2**70), 10**25])
        self.check([float("nan"), [float("inf")], (1.0, -float("inf"))], [None, [None], [1.0, None]])
        self.check({"big": 2**70, "x": [float("nan")]}, {"big": 2**70, "x": [None]})
        self.check([1 + 2j, Colour.RED, Point(1.0, [2]), Pair(1, 2)], [[1.0, 2.0], 3, {"x": 1.0, "y": [2]}, [1, 2]])
        self.check([{3, 1, 2}, frozenset([5]), range(3), collections.deque([1])], [[1, 2, 3], [5], [0, 1, 2], [1]])
        self.check([b"xx", bytearray(b"a"), memoryview(b"b")], ["eHg=", "YQ==", "Yg=="])
        self.check([datetime.date(2020, 1, 2), datetime.timedelta(seconds=1.5)], ["2020-01-02", 1.5])
        self.check([decimal.Decimal("1.10"), fractions.Fraction(1, 4)], ["1.10", 0.25])
        self.check([uuid.UUID(int=1), pathlib.PurePosixPath("/a")], [str(uuid.UUID(int=1)), "/a"])
        self.check(collections.OrderedDict(b=1, a=2), {"a": 2, "b": 1})
        self.check(collections.ChainMap({"a": 1}), {"a": 1})
        self.check("\ud800x", "\ud800x")

    def test_bare(self):
        value = [float("nan"), {"a": -float("inf"), "b": 2**70}]
        text = rope.Encoder().encode(value, "bare")[0][0].decode()
        self.assertEqual(text, '[NaN,{"a":-Infinity,"b":1180591620717411303424}]')

    def test_floats_are_written_as_python_writes_them(self):
        values = [1e22, 1.0, 0.1 + 0.2, 1e-7, -0.0, 1e16, 123456789012345680.0]
        for nonfinite in ("null", "bare"):
            self.assertEqual([repr(v) for v in through(values, nonfinite)], [repr(v) for v in values])

    def test_refused(self):
        loop = []
        loop.append(loop)
        for value in (os, len, int, object(), {(1, 2): 3}, iter([]), loop, lambda: 1):
            for nonfinite in ("null", "bare"):
                with self.assertRaises((TypeError, RecursionError)) as caught:
                    rope.Encoder().encode({"x": value}, nonfinite)
                if value is os:
                    self.assertIn("the module 'os' can't be returned", str(caught.exception))

    def test_an_encoder_works_after_a_refusal(self):
        encoder = rope.Encoder()
        big = list(range(100))
        with self.assertRaises(TypeError):
            encoder.encode([numpy.arange(100) if numpy else big, os])
        self.assertEqual(through([1], encoder=encoder), [1])


class Octets(unittest.TestCase):
    def check(self):
        for size in (0, 1, 64, 65, 70_000):
            data = bytes(i % 256 for i in range(size))
            for nonfinite in ("null", "bare"):
                body, fd = rope.pack(*rope.Encoder().encode({"bytes": rope.Octets(data)}, nonfinite))
                self.assertEqual(fd is not None, size > rope.INLINE_ARRAYS)
                pieces = rope.unpack(body, read(fd))
                self.assertEqual(pieces, [("text", '{"bytes":'), ("array", rope.DTYPES["u1"], (size,), list(data)), ("text", "}")])

    def test_are_a_piece_however_small(self):
        self.check()

    def test_need_no_numpy(self):
        with unittest.mock.patch.dict(sys.modules):
            sys.modules.pop("numpy", None)
            self.check()

    def test_are_numbers_where_there_are_no_pieces(self):
        self.assertEqual(rope.Encoder().text([rope.Octets(b"\0\xff")]), b"[[0,255]]")


@unittest.skipIf(numpy is None, "needs numpy")
class Arrays(unittest.TestCase):
    def test_every_dtype(self):
        for name in "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 g ? >i4 >f8 c8 c16".split():
            for shape in ((70,), (9, 9), (0,), (3, 0), (2, 2, 20), ()):
                value = numpy.arange(int(numpy.prod(shape)), dtype="f8").reshape(shape).astype(name)
                with self.subTest(dtype=name, shape=shape):
                    expected = value.tolist()
                    if name == "g":
                        expected = value.astype("f8").tolist()
                    if value.dtype.kind == "c":
                        expected = numpy.stack([value.real, value.imag], -1).tolist()
                    self.assertEqual(through({"a": value})["a"], expected)

    def test_layouts(self):
        base = numpy.arange(1000).reshape(10, 100)
        for value in (base[::2], base[:, ::3], base.T, base[::-1], numpy.asfortranarray(base), base[3:, 5:90:7]):
            self.assertEqual(through(value), value.tolist())
        many = numpy.zeros((1,) * 9 + (100,))
        self.assertEqual(through(many), many.tolist())

    def test_other_arrays(self):
        day = numpy.array(["2020-01-01", "NaT"], dtype="datetime64[D]")
        self.assertEqual(through(day), ["2020-01-01", None])
        self.assertEqual(through(numpy.timedelta64(1500, "ms")), 1.5)
        self.assertEqual(through(numpy.array(["x", "yy"])), ["x", "yy"])
        self.assertEqual(through(numpy.array([None, {"a": 1}, numpy.int64(3)], dtype=object)), [None, {"a": 1}, 3])
        record = numpy.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])
        self.assertEqual(through(record), {"a": [1], "b": [2.5]})
        self.assertEqual(through(numpy.ma.masked_array([1, 2], [True, False])), [None, 2])
        self.assertEqual(through(array.array("d", [1.5] * 100)), [1.5] * 100)
        self.assertEqual(through([numpy.float64(1.5), numpy.bool_(True), numpy.int64(3)]), [1.5, True, 3])
        self.assertEqual(through({numpy.int64(4): 1}), {"4": 1})

    def test_not_finite_in_arrays(self):
        value = numpy.array([1.0, numpy.nan, numpy.inf] * 40)
        self.assertEqual(through(value), [1.0, None, None] * 40)
        bare = through(value, "bare")
        self.assertTrue(math.isnan(bare[1]) and bare[2] == math.inf)

    def test_where_data_goes(self):
        encoder = rope.Encoder()
        for value, memfd in (
            (numpy.zeros(8000), False),
            (numpy.zeros(9000), True),
            ("x" * 200_000, False),
            ("x" * 300_000, True),
            ([numpy.zeros(100)] * 8192, True),
            ([numpy.zeros(100)] * 8193, True),  # too many pieces: text
        ):
            body, fd = rope.pack(*encoder.encode(value))
            self.assertEqual(fd is not None, memfd)
            self.assertLessEqual(len(body), 1 << 20)
            read(fd)

    def test_text_that_looks_like_the_mark(self):
        encoder = rope.Encoder()
        value = [encoder._mark, numpy.arange(100)]
        self.assertEqual(through(value, encoder=encoder), [encoder._mark, list(range(100))])

    def test_fuzz(self):
        dtypes = "i1 i2 i4 i8 u1 u2 u4 u8 f4 f8 ?".split()

        def make(rng, depth):
            kind = rng.randrange(12 if depth < 4 else 8)
            if kind == 0:
                return rng.choice([None, True, False])
            if kind == 1:
                return rng.choice([rng.randrange(-1000, 1000), 2**63, 2**64 - 1, rng.getrandbits(80)])
            if kind == 2:
                return rng.choice([rng.gauss(0, 1), float("nan"), float("inf"), 1e300, rng.random() * 10 ** rng.randrange(-30, 30)])
            if kind == 3:
                return "".join(rng.choice('ab"\\é\n\x02\u2028😀') for _ in range(rng.randrange(20)))
            if kind in (4, 5, 6, 7):
                shape = [rng.randrange(0, 30) for _ in range(rng.randrange(1, 4))]
                count = 1
                for n in shape:
                    count *= n
                dtype = rng.choice(dtypes)
                raw = numpy.frombuffer(rng.randbytes(count * 8) if hasattr(rng, "randbytes") else os.urandom(count * 8), "u8")
                value = raw.view("f8") if dtype == "f8" else raw.astype(dtype) if dtype != "f4" else (raw >> 40).astype("f4")
                value = value.reshape(shape)
                if rng.random() < 0.3 and value.ndim > 1:
                    value = value.swapaxes(0, 1)
                return value
            if kind in (8, 9):
                return [make(rng, depth + 1) for _ in range(rng.randrange(6))]
            if kind == 10:
                return tuple(make(rng, depth + 1) for _ in range(rng.randrange(6)))
            return {f"k{rng.randrange(99)}": make(rng, depth + 1) for _ in range(rng.randrange(6))}

        encoder = rope.Encoder()
        for seed in range(300):
            rng = random.Random(seed)
            value = make(rng, 0)
            with self.subTest(seed=seed):
                self.assertEqual(through(value, encoder=encoder), plain(value))
                bare = json.dumps(through(value, "bare", encoder), sort_keys=True)
                self.assertEqual(bare, json.dumps(plain(value, True), sort_keys=True))


if __name__ == "__main__":
    unittest.main()
