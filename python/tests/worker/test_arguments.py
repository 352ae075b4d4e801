import math
import unittest

import harness
from myelin.worker import arguments

assert harness
JSON = "application/json"


class Arguments(unittest.TestCase):
    def check(self, content_type, query, body, args, kwargs):
        got = arguments.parse(content_type, query, body)
        self.assertEqual((list(got[0]), dict(got[1])), (args, kwargs))

    def test_json(self):
        self.check(JSON, "", b'"resolution"', ["resolution"], {})
        self.check(JSON, "", b'["a", 2]', ["a", 2], {})
        self.check(JSON, "", b'{"a": 1}', [], {"a": 1})
        self.check(JSON, "", b'{"a": 1, "args": [1, [2]]}', [1, [2]], {"a": 1})
        self.check(JSON, "", b'{"args": []}', [], {})
        self.check(JSON, "keys=ignored", b"{}", [], {})
        for nothing in (b"null", b"5", b"true", b'""', b"[]"):
            self.check(JSON, "x=1", nothing, [], {})
        self.check("application/vnd.x+json; charset=utf-8", "", b"[1]", [1], {})
        self.check("Application/JSON; charset=UTF-8", "", b"[1]", [1], {})

    def test_numbers(self):
        args, _ = arguments.parse(JSON, "", b"[NaN, Infinity, -Infinity, 12345678901234567890123, 1e2, 1]")
        self.assertTrue(math.isnan(args[0]))
        self.assertEqual(args[1:], [math.inf, -math.inf, 12345678901234567890123, 100.0, 1])
        self.assertEqual([type(v) for v in args[3:]], [int, float, int])

    def test_form_and_query(self):
        form = "application/x-www-form-urlencoded"
        self.check(form, "", b"args=a&args=b&c=1", ["a", "b"], {})
        self.check(form, "", b"a=1&a=2&b=%C3%A9+x", [], {"a": "1", "b": "é x"})
        self.check(form, "q=1", b"", [], {"q": "1"})
        self.check(None, "keys=resolution", b"", [], {"keys": "resolution"})
        self.check(None, "args=a&args=b", b"", ["a", "b"], {})
        self.check("text/plain", "a=", b"junk", [], {"a": ""})
        self.check(None, None, b"", [], {})
        self.check("application/jsonx", "a=1", b"{}", [], {"a": "1"})

    def test_multipart(self):
        body = (
            b'--XX\r\nContent-Disposition: form-data; name="source"\r\n\r\na = 1\r\nb = 2\r\n'
            b'--XX\r\nContent-Disposition: form-data; name="return"\r\n\r\na\r\n--XX--\r\n'
        )
        self.check("multipart/form-data; boundary=XX", "", body, [], {"source": "a = 1\r\nb = 2", "return": "a"})


if __name__ == "__main__":
    unittest.main()
