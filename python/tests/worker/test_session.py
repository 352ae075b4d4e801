"""Sessions of the engine `python`: scripts, output, interrupts, the zygote."""

import json
import os
import signal
import socket
import time
import unittest

import harness
from harness import Died, Failure, Zygote
from myelin.worker import interrupts as signals
from myelin.worker import protocol, rope

JSON = "application/json"


def setUpModule():
    global ZYGOTE
    ZYGOTE = Zygote("python", env={"SECRET": "1"})
    assert ZYGOTE.ready, ZYGOTE.failed


def tearDownModule():
    ZYGOTE.close()


class Case(unittest.TestCase):
    options = {}

    def setUp(self):
        self.session = ZYGOTE.spawn(self.options)
        self.addCleanup(self.session.close)

    def fails(self, source, **meta):
        with self.assertRaises(Failure) as caught:
            self.session.exec(source, **meta)
        return caught.exception.fields

    def check_error(self, source, cls, text, line):
        fields = self.fails(source)
        self.assertEqual((fields["class"], fields["text"], fields.get("line")), (cls, text, line))
        return fields


class Scripts(Case):
    def test_return(self):
        run = self.session.exec
        self.assertEqual(run("a = 1"), {})
        self.assertEqual(run("a = 1", "a"), {"data": 1})
        self.assertEqual(run("a = 1; b = [1, 2]", "a", "b", "zz"), {"data": {"a": 1, "b": [1, 2], "zz": None}})
        self.assertEqual(run("a = 1", "zz"), {"data": None})
        self.assertEqual(run("a = 1", "max"), {"data": None})
        self.assertEqual(run("a = 1", "__builtins__"), {"data": None})
        for nothing in ("", None, []):
            answer = self.session.json("exec", {"source": "a=1", "return": nothing})
            self.assertEqual(answer, {"data": {} if nothing == [] else None})

    def test_requests_without_a_script(self):
        for body in ("a = 1", [1], None, {}):
            self.assertEqual(self.session.json("exec", body), {})
        self.assertEqual(self.session.call("exec"), {})
        self.assertEqual(self.session.call("exec", query="source=a%3D5&return=a"), {"data": 5})
        with self.assertRaises(Failure) as caught:
            self.session.json("exec", {"source": 5})
        self.assertEqual(caught.exception.fields["class"], "TypeError")

    def test_globals_are_fresh(self):
        self.session.exec("z = 9")
        self.assertEqual(self.session.exec("", "z"), {"data": None})
        self.assertEqual(self.session.exec("a = __name__", "a"), {"data": "__main__"})

    def test_v1_globals_stay(self):
        run = self.session.exec
        self.assertEqual(run("z = 9", envelope="v1"), {"data": {}, "stdout": ""})
        self.assertEqual(run("print(z)", "z", envelope="v1"), {"data": 9, "stdout": "9\n"})
        answer = self.session.json("exec", {"source": "", "return": "z", "fresh": True}, envelope="v1")
        self.assertEqual(answer, {"data": None, "stdout": ""})

    def test_v1_knows_its_members(self):
        for body in ({}, {"returns": ["v"]}, {"source": 5}, {"source": "v = 1", "returns": ["v"]}, "v = 1"):
            with self.assertRaises(Failure) as caught:
                self.session.json("exec", body, envelope="v1")
            self.assertEqual(caught.exception.fields["class"], "ValueError", body)
        self.session.exec("def f(x=1): return x", envelope="v1")
        self.assertEqual(self.session.json("call", {"function": "f", "kwargs": {"x": 3}, "title": "t"})["data"], 3)
        self.assertEqual(self.session.json("step", {"call": "f", "args": [4]}), {"data": 4})
        for method, body in (("call", {"function": "f", "arguments": [2]}), ("step", {"call": "f", "kwargs": {"x": 2}})):
            with self.assertRaises(Failure) as caught:
                self.session.json(method, body)
            self.assertIn("has no member", caught.exception.fields["text"])

    def test_stdout_is_exact(self):
        self.assertEqual(self.session.exec("print('Hello', 'world')\nprint(1, end='')\nprint(2)"), {"stdout": "Hello world\n12\n"})
        self.assertEqual(self.session.exec("import sys\nsys.stdout.buffer.write(b'x')\nsys.stdout.flush()"), {"stdout": "x"})
        self.assertEqual(self.session.exec("pass"), {})
        self.assertIn("Hello world\n12\n", self.session.printed())

    def test_stderr_goes_to_the_output(self):
        self.assertEqual(self.session.exec("import sys\nsys.stderr.write('err\\n')"), {})
        self.assertIn("err", self.session.printed())

    def test_lines_of_errors(self):
        check = self.check_error
        check("a=1\nb=2\nc=1/0\n", "ZeroDivisionError", "division by zero", 3)
        check("def f():\n  return 1/0\nx=1\nf()\n", "ZeroDivisionError", "division by zero", 2)
        check("a={}\nb=a['k']\n", "KeyError", "k", 2)
        check("raise Exception('x', 'y')", "Exception", "x", 1)
        check("raise Exception", "Exception", "", 1)
        check("assert False", "AssertionError", "", 1)
        check("a=1\n\tb=2", "IndentationError", "unexpected indent", 2)
        check("\nimport json\njson.loads('{')", "JSONDecodeError", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", 3)
        fields = self.fails("a = 1\nb = (1\n")
        self.assertEqual((fields["class"], fields["line"]), ("SyntaxError", 2))
        fields = self.fails("import json\ndef f():\n  json.loads('{')\nf()")
        self.assertEqual(fields["traceback"], ["line 4, in <module>: f()", "line 3, in f: json.loads('{')"])

    def test_no_error_ends_the_session(self):
        for source, cls in (
            ("def f(): f()\nf()", "RecursionError"),
            ("a = bytearray(10 ** 18)", "MemoryError"),
            ("\nexit(3)", "SystemExit"),
            ("\nimport sys; sys.exit()", "SystemExit"),
            ("\nraise KeyboardInterrupt", "KeyboardInterrupt"),
            ("\nraise GeneratorExit", "GeneratorExit"),
            ("class E(Exception):\n  def __str__(self): 1/0\nraise E(E())", "E"),
            ("raise Exception('\\ud800')", "Exception"),
            ("a = '\\0'\n\0", "ValueError SyntaxError"),
            ("class X(Exception):\n  @property\n  def args(self): 1/0\nraise X", "X"),
        ):
            with self.subTest(source):
                fields = self.fails(source)
                self.assertIn(fields["class"], cls)
                self.assertFalse(fields["interrupted"])
        self.assertEqual(self.session.exec("a = 1", "a"), {"data": 1})

    def test_errors_carry_what_was_printed(self):
        self.assertEqual(self.fails("print('before')\n1/0")["stdout"], "before\n")
        self.assertEqual(self.session.exec("print('after')"), {"stdout": "after\n"})

    def test_values_that_cannot_be_returned(self):
        fields = None
        with self.assertRaises(Failure) as caught:
            self.session.exec("import os", "os")
        fields = caught.exception.fields
        self.assertEqual(fields["class"], "TypeError")
        self.assertIn("the module 'os' can't be returned", fields["text"])

    def test_large_results_and_requests(self):
        value = self.session.exec("import numpy as np\na = np.arange(10 ** 5)\nb = 'x' * 10 ** 6", "a", "b")["data"]
        self.assertEqual(value["a"], list(range(10**5)))
        self.assertEqual(len(value["b"]), 10**6)
        source = "a = '" + "y" * 10**6 + "'\nn = len(a)"
        self.assertEqual(self.session.exec(source, "n"), {"data": 10**6})

    def test_environment(self):
        answer = self.session.exec("import os\ne = dict(os.environ)\nw = os.getcwd()\nt = os.listdir('/proc/self/fd')", "e", "w", "t")
        environment = answer["data"]["e"]
        self.assertEqual(environment["HOME"], ZYGOTE.home)
        self.assertEqual(answer["data"]["w"], ZYGOTE.home)
        self.assertTrue(environment["MPLCONFIGDIR"].startswith(ZYGOTE.home))
        self.assertLessEqual(set(answer["data"]["t"]) - {"4"}, set("0123"))


class Modules(unittest.TestCase):
    def test_both_forms(self):
        for text in ("math,json", "import math; import json", "import math\nimport json", "math; import json"):
            with ZYGOTE.spawn({"modules": text}) as session:
                self.assertEqual(session.exec("a = math.pi > 3 and json.dumps(1)", "a"), {"data": "1"})
        with ZYGOTE.spawn({"modules": "import os.path as p; from os import path; import nothing_of_that_name"}) as session:
            self.assertEqual(session.exec("a = p is path", "a"), {"data": True})
            self.assertIn("nothing_of_that_name", session.printed())


class Output(unittest.TestCase):
    def test_bounded(self):
        with ZYGOTE.spawn({"stdout_bytes": 1000}) as session:
            text = session.exec("for i in range(1000): print(i)")["stdout"]
            self.assertTrue(text.startswith("0\n1\n"))
            self.assertIn("2890 more characters", text)
            self.assertEqual(session.exec("print('x')"), {"stdout": "x\n"})

    def test_nobody_reads(self):
        with ZYGOTE.spawn() as session:
            answer = session.exec("for i in range(200000): print('line', i)\nprint('x' * 5000000)")
            self.assertEqual(len(answer["stdout"]), 5_000_001 + sum(len(f"line {i}\n") for i in range(200000)))
            first = session.printed()
            self.assertTrue(first.startswith("line 0\n"))
            session.exec("print('the end')")
            rest = ""
            while True:
                more = session.printed()
                if not more:
                    break
                rest += more
                session.exec("pass")
            self.assertTrue(rest.endswith("the end\n"), rest[-100:])

    def test_last_lines_of_a_session_that_dies(self):
        with ZYGOTE.spawn() as session:
            with self.assertRaises(Died):
                session.exec("import os\nfor i in range(100): print('line', i)\nos.abort()")
            self.assertTrue(session.printed().endswith("line 99\n"))
            self.assertEqual(ZYGOTE.exited(session.pid) & 0x7F, signal.SIGABRT)


class Interrupts(Case):
    def start(self, source):
        body = json.dumps({"source": source, "return": "a"}).encode()
        return self.session.start("exec", body, content_type=JSON)

    def ends(self, number, line=None):
        with self.assertRaises(Failure) as caught:
            self.session.finish(number)
        fields = caught.exception.fields
        self.assertEqual((fields["class"], fields["interrupted"]), ("KeyboardInterrupt", True))
        if line:
            self.assertEqual(fields["line"], line)
        return fields

    def says(self, text):
        """Waits until it has printed that."""
        said, end = "", time.monotonic() + 60.0
        while text not in said:
            self.assertLess(time.monotonic(), end, said)
            time.sleep(0.01)
            said += self.session.printed()

    def test_endless_loop(self):
        number = self.start("a = 1\nprint('begun')\nwhile True: pass")
        self.says("begun")
        self.session.interrupt(number)
        self.assertIn(self.ends(number)["line"], (2, 3))
        self.assertEqual(self.session.exec("a = 1", "a"), {"data": 1})

    def test_sleep(self):
        number = self.start("import time; print('begun')\ntime.sleep(100)")
        self.says("begun")
        self.session.interrupt(number)
        self.assertIn(self.ends(number)["line"], (1, 2))

    def test_interrupt_with_the_call(self):
        for _ in range(20):
            number = self.start("while True: pass")
            self.session.interrupt(number)
            self.ends(number)

    def test_script_that_catches(self):
        number = self.start("import time\ntry:\n  print('begun')\n  while True: time.sleep(0.01)\nexcept BaseException: a = 1")
        self.says("begun")
        self.session.interrupt(number)
        body, data = self.session.finish(number)
        self.assertEqual(json.loads(rope.to_json(rope.unpack(body, data)))["data"], 1)

    def test_stubborn_script_is_interrupted_again(self):
        number = self.start("import time\nwhile True:\n  try:\n    print('yes'); time.sleep(100)\n  except KeyboardInterrupt: print('no')")
        self.says("yes")
        for _ in range(2):
            time.sleep(0.5)  # one soon after another is the same one
            self.session.interrupt(number)
            self.says("no")
        self.session.signal()  # without a frame: nothing
        with self.assertRaises(TimeoutError):
            self.session.finish(number, 0.3)
        self.assertNotIn("no", self.session.printed())
        self.session.signal(signal.SIGKILL)
        with self.assertRaises(Died):
            self.session.finish(number)

    def test_late_and_foreign_signals_are_ignored(self):
        self.session.signal()
        self.session.interrupt(99)
        self.assertEqual(self.session.exec("a = sum(range(100000))", "a"), {"data": 4999950000})
        number = self.start("import time\nt = time.monotonic()\nwhile time.monotonic() < t + 0.5: pass\na = 5")
        time.sleep(0.1)
        self.session.signal()
        self.session.interrupt(number - 1)
        self.session.interrupt(number + 1)
        body, data = self.session.finish(number)
        self.assertEqual(json.loads(rope.to_json(rope.unpack(body, data))), {"data": 5})

    def test_storm(self):
        for i in range(100):
            number = self.start("a = 0\nfor i in range(2000): a += i")
            self.session.interrupt(number)
            if i % 3 == 0:
                self.session.interrupt(number)
            try:
                self.session.finish(number)
            except Failure as failure:
                self.assertTrue(failure.fields["interrupted"])
            self.session.interrupt(number)
        self.assertEqual(self.session.exec("a = 1", "a"), {"data": 1})


class Signals(unittest.TestCase):
    def test_a_signal_while_another_is_looked_at(self):
        """The second frame arrives, with its signal, while the first is being read: neither is lost, and nothing reads in between."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)

        class Slow:
            def __init__(self):
                self.readers, self.most, self.hurt = 0, 0, False

            def recv_into(self, view, *rest):
                self.readers += 1
                self.most = max(self.most, self.readers)
                try:
                    n = ours.recv_into(view, *rest)
                    if not self.hurt:
                        self.hurt = True
                        theirs.sendall(protocol.frame(protocol.INTERRUPT, call=7) + protocol.frame(protocol.CALL, b"next", call=8))
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(0)  # the handler runs here at the latest
                    return n
                finally:
                    self.readers -= 1

        slow = Slow()
        channel = protocol.Channel(slow)
        interrupts = signals.Interrupts(channel)
        former = signal.getsignal(signal.SIGINT)
        self.addCleanup(signal.signal, signal.SIGINT, former)
        interrupts.install()
        interrupts.begin(7)
        interrupts.armed = True
        theirs.sendall(protocol.frame(protocol.FOLLOW, b"{}"))
        with self.assertRaises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        interrupts.end()
        self.assertTrue(slow.hurt and interrupts.requested)
        self.assertEqual(slow.most, 1)
        self.assertEqual(interrupts.follows, [b"{}"])
        self.assertEqual(channel.receive(), (protocol.CALL, 8, b"next"))


class Life(unittest.TestCase):
    def test_ready(self):
        ready = ZYGOTE.ready
        self.assertEqual((ready["engine"], ready["threads"], ready["interruptible"]), ("python", 1, True))
        self.assertIn("python", ready["versions"])

    def test_bye_and_end_of_file(self):
        with ZYGOTE.spawn() as session:
            session.sock.sendall(protocol.frame(protocol.BYE))
            self.assertEqual(ZYGOTE.exited(session.pid), 0)
        session = ZYGOTE.spawn()
        session.close()
        self.assertEqual(ZYGOTE.exited(session.pid), 0)

    def test_exit_statuses(self):
        with ZYGOTE.spawn() as session:
            with self.assertRaises(Died):
                session.exec("import os\nos._exit(7)")
            self.assertEqual(os.WEXITSTATUS(ZYGOTE.exited(session.pid)), 7)
        with ZYGOTE.spawn() as session:
            session.sock.sendall(bytes(16))
            self.assertEqual(os.WEXITSTATUS(ZYGOTE.exited(session.pid)), 71)

    def test_unknown_method(self):
        with ZYGOTE.spawn() as session:
            with self.assertRaises(Failure) as caught:
                session.call("api", name="Create")
            self.assertIn("has no method 'api'", caught.exception.fields["text"])
            self.assertIn("python", session.call("version"))

    def test_each_session_has_its_own_random_numbers(self):
        seen = []
        for _ in range(20):
            with ZYGOTE.spawn() as session:
                source = "import random, uuid\nimport numpy as np\na = [random.random(), float(np.random.rand()), float(np.random.default_rng().random()), str(uuid.uuid4())]"
                seen.append(session.exec(source, "a")["data"])
        for column in zip(*seen):
            self.assertEqual(len(set(column)), 20)

    def test_many_sessions_leave_no_descriptors(self):
        path = f"/proc/{ZYGOTE.process.pid}/fd"
        before = len(os.listdir(path))
        for _ in range(20):
            session = ZYGOTE.spawn()
            session.close()
            ZYGOTE.exited(session.pid)
        self.assertEqual(len(os.listdir(path)), before)

    def test_failures(self):
        ZYGOTE.send({"spawn": {"id": "x"}})
        self.assertEqual(ZYGOTE.answer()["failed"], {"id": "x", "reason": "spawn needs a channel and an output"})
        ZYGOTE.send({"nonsense": 1})
        self.assertIsNone(ZYGOTE.answer()["failed"]["id"])

    def test_a_join_that_fails(self):
        import socket

        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        ZYGOTE.send({"spawn": {"id": "y", "home": "/no/such/place"}}, [theirs.fileno(), write])
        theirs.close()
        os.close(write)
        pid = ZYGOTE.answer()["spawned"]["pid"]
        data = ours.recv(1 << 16)
        kind, body = protocol.parse(data)[1], protocol.parse(data)[4]
        self.assertEqual(kind, protocol.ERROR)
        self.assertEqual(json.loads(body)["text"], "home: No such file or directory")
        self.assertEqual(os.WEXITSTATUS(ZYGOTE.exited(pid)), 72)
        ours.close()
        os.close(read)

    def test_a_zygote_with_threads_refuses(self):
        import tempfile

        with tempfile.TemporaryDirectory() as path:
            with open(os.path.join(path, "myelin_test_thread.py"), "w") as file:
                file.write("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
            start = harness.START
            try:
                harness.START = "import sys; sys.path.insert(0, %r); " % path + start
                zygote = Zygote("python", preload=["myelin_test_thread"])
            finally:
                harness.START = start
            self.assertEqual(zygote.ready["threads"], 2)
            self.assertEqual(zygote.ready["thread_by"], "myelin_test_thread")
            with self.assertRaisesRegex(RuntimeError, "not single-threaded: 2"):
                zygote.spawn()
            self.assertEqual(zygote.process.wait(10), 1)
            zygote.close()

    def test_wrong_hello(self):
        for hello in ({"protocol": 2, "filter_bytes": 0}, {"protocol": 1, "filter_bytes": 12}):
            with Zygote("python", hello=hello) as zygote:
                self.assertIsNone(zygote.ready)
                self.assertIsNone(zygote.failed["id"])
        with Zygote("nothing") as zygote:
            self.assertIn("unknown engine", zygote.failed["reason"])
        with Zygote("python", env={"MYELIN_REDUCED": "0"}) as zygote:
            self.assertIn("MYELIN_ENTER_LIBRARY", zygote.failed["reason"])

    def test_end_of_file_ends_the_zygote(self):
        zygote = Zygote("python")
        zygote.control.close()
        self.assertEqual(zygote.process.wait(10), 0)


if __name__ == "__main__":
    unittest.main()
