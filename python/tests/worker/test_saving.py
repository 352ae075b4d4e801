"""Saved globals: what a script made comes back as it was, in its own process and in another."""

import io
import os
import subprocess
import sys
import unittest

from myelin.worker import saving
from myelin.worker.engines import Engine

SCRIPT = '''
import collections, dataclasses, enum, math, threading
from typing import NamedTuple

def counter():
    count = 0
    def step():
        nonlocal count
        count += 1
        return count
    return step

def depth(n=3):
    def inner(k):
        return 0 if k == 0 else 1 + inner(k - 1)
    return inner(n)

class Point(NamedTuple):
    x: int
    y: int = 2
    def sum(self):
        return self.x + self.y

class Shape:
    sides = 0
    def __init__(self, name):
        self.name = name
    @property
    def title(self):
        return self.name.title()
    @staticmethod
    def two():
        return 2
    @classmethod
    def made(cls):
        return cls("made")

class Square(Shape):
    sides = 4
    def __init__(self, name):
        super().__init__(name)
        self.big = True

@dataclasses.dataclass
class Cell:
    v: float
    history: list = dataclasses.field(default_factory=list)

step = counter()
step()
shared = [1]
pair = (shared, shared)
point, square, cell = Point(1), Square("a square"), Cell(-65.0)
loop = []
loop.append(loop)
area = lambda r: math.pi * r * r
table = collections.defaultdict(list, a=[1])
lock, gen = threading.Lock(), (i for i in range(3))
holds = {"deep": [gen]}
'''
CHECK = '''
assert step() == 2 and depth() == 3 and point.sum() == 3 and type(point) is Point and Point(3).y == 2
assert square.title == "A Square" and square.sides == 4 and isinstance(square, Shape) and Square.two() == 2 and Shape.made().name == "made"
assert cell == Cell(-65.0) and pair[0] is pair[1] is shared and loop[0] is loop and area(1) > 3.14 and table["b"] == []
assert not {"lock", "gen", "holds", "later"} & set(globals())
'''


def space():
    return {"__name__": "__main__", "__builtins__": __builtins__}


def run(text, globals_):
    exec(compile(text, "<script>", "exec"), globals_)


class Saving(unittest.TestCase):
    def saved(self, globals_):
        file = io.BytesIO()
        left_out = saving.save(file, globals_, Engine())
        file.seek(0)
        return file, left_out

    def test_in_its_own_process(self):
        here = space()
        run(SCRIPT, here)
        file, left_out = self.saved(here)
        self.assertEqual([one["name"] for one in left_out], ["lock", "gen", "holds"])
        self.assertTrue(all(one["why"] for one in left_out))
        area, cls = here["area"], here["Shape"]
        run("step()\nshared.append(2)\nShape.sides = 7\nShape.more = 1\nlater = 1\npoint = None", here)
        saving.load(file, here, Engine())
        self.assertIs(here["area"], area)
        self.assertIs(here["Shape"], cls)
        self.assertEqual((cls.sides, hasattr(cls, "more"), here["shared"]), (0, False, [1]))
        run(CHECK, here)

    def test_in_another_process(self):
        here = space()
        run(SCRIPT, here)
        file, _ = self.saved(here)
        program = (
            "import sys, io\nfrom myelin.worker import saving\nfrom myelin.worker.engines import Engine\n"
            "there = {'__name__': '__main__', '__builtins__': __builtins__, 'later': 1}\n"
            "saving.load(io.BytesIO(sys.stdin.buffer.read()), there, Engine())\n"
            f"exec(compile({CHECK!r}, '<script>', 'exec'), there)\n"
        )
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run([sys.executable, "-c", program], input=file.getvalue(), capture_output=True, env=environment)
        self.assertEqual((done.returncode, done.stderr.decode()), (0, ""))

    def test_what_can_not_be_read_changes_nothing(self):
        here = space()
        run("a = 1", here)
        file, _ = self.saved(here)
        with self.assertRaises(Exception):
            saving.load(io.BytesIO(file.getvalue()[:-4]), here, Engine())
        self.assertEqual(here["a"], 1)

    def test_a_function_of_other_globals_is_left_out(self):
        here, there = space(), space()
        run("def f():\n    return 1", there)
        here["f"] = there["f"]
        self.assertEqual([one["name"] for one in self.saved(here)[1]], ["f"])

    def test_random_numbers_go_on(self):
        here = space()
        run("import random\nrandom.seed(3)", here)
        file, _ = self.saved(here)
        run("a = [random.random() for _ in range(3)]", here)
        wanted = here["a"]
        saving.load(file, here, Engine())
        run("a = [random.random() for _ in range(3)]", here)
        self.assertEqual(here["a"], wanted)


if __name__ == "__main__":
    unittest.main()
