"""``client.functions``: the server's simulation functions as Python functions, with their signature and documentation."""

import inspect

from .errors import NotFoundError
from .transport import quoted


class Functions:
    """``client.functions.run_cell(amp=0.1)`` calls a function by its name, ``client.functions.cells.run_cell(…)`` or
    ``client.functions["cells.run_cell"]`` by its package too. ``list()`` gives all of them, ``broken()`` the packages that can't be read."""

    def __init__(self, client, package=""):
        self._client, self._package = client, package

    def list(self):
        return [Function(self._client, info) for info in self._all()["functions"] if not self._package or info["package"] == self._package]

    def broken(self):
        """A list of dicts: package, text, file, line."""
        return self._all()["errors"]

    def _all(self):
        return self._client._value("GET", "/v1/functions")

    def __getitem__(self, name):
        full = self._package + "." + name if self._package else name
        return Function(self._client, self._client._value("GET", "/v1/functions/" + quoted(full)))

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except NotFoundError:
            if not self._package and any(info["package"] == name for info in self._all()["functions"]):
                return Functions(self._client, name)
            raise

    def __dir__(self):
        infos = [info for info in self._all()["functions"] if not self._package or info["package"] == self._package]
        names = {info["name"] for info in infos} | (set() if self._package else {info["package"] for info in infos})
        return sorted(names | {"list", "broken"})

    def __repr__(self):
        return "<Functions of %s>" % (self._package or self._client._transport.where)


class Function:
    """A function of the server. ``f(amp=0.1)`` calls it and gives its result; ``help(f)`` tells its parameters. ``info`` is its declaration."""

    def __init__(self, client, info):
        self._client, self.info = client, info
        self.__name__ = info["name"]
        self.__qualname__ = info["id"]
        self.__doc__ = _documentation(info)
        self.__signature__ = _signature(info)

    id = property(lambda self: self.info["id"])

    def __call__(self, *args, **kwargs):
        return self._ask(_parameters(self.__signature__, args, kwargs)).value()["data"]

    def call(self, parameters=None, keep=False, title=None, timeout_s=None, seed=None):
        """With the call's own settings, a Result: ``data``, ``stdout`` and, where it is kept, ``run``."""
        from .native import _result

        return _result(self._client, self._ask(parameters, keep=keep, title=title, timeout_s=timeout_s, seed=seed))

    def submit(self, parameters=None, keep=False, title=None, timeout_s=None, seed=None):
        """Without waiting: a Job."""
        from .native import Job

        answer = self._ask(parameters, {"Accept": "application/json", "Prefer": "respond-async"}, keep=keep, title=title, timeout_s=timeout_s, seed=seed)
        return Job(self._client, answer.value())

    def picture(self, parameters=None, kind="image/png"):
        """The picture that the function draws, as bytes; ``kind`` may be "image/svg+xml"."""
        return self._ask(parameters, {"Accept": kind}).data

    def sweep(self, grid=None, points=None, **options):
        """A Job that calls it for each point of ``grid`` (name -> values) or ``points`` (a list of dicts); see Client.sweep."""
        return self._client.sweep(self.id, grid=grid, points=points, **options)

    def _ask(self, parameters, headers=None, **terms):
        content = {"parameters": dict(parameters or {})}
        content.update({name: value for name, value in terms.items() if value not in (None, False)})
        return self._client._ask("POST", "/v1/functions/" + quoted(self.id), content, headers)

    def __repr__(self):
        return "<Function %s of package %s, version %s>" % (self.info["signature"], self.info["package"], self.info["version"])


def _parameters(signature, args, kwargs):
    bound = signature.bind(*args, **kwargs)
    more = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    given = dict(bound.arguments)
    for name in more:
        given.update(given.pop(name, {}))
    return given


def _signature(info):
    parameters, optional = [], False
    for one in info["parameters"]:
        optional = optional or not one["required"]
        kind = inspect.Parameter.KEYWORD_ONLY if optional and one["required"] else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = inspect.Parameter.empty if one["required"] else one.get("default", ...)
        parameters.append(inspect.Parameter(one["name"], kind, default=default))
    if info.get("variadic"):
        parameters.append(inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD))
    # A parameter that must be given by name stands behind those that need not.
    parameters.sort(key=lambda parameter: parameter.kind)
    return inspect.Signature(parameters)


def _documentation(info):
    lines = [part for part in (info.get("title"), info.get("description")) if part]
    if info["parameters"]:
        lines.append("\n".join(["Parameters:"] + ["    " + _line(one) for one in info["parameters"]]))
    results = info.get("results") or {}
    if results:
        lines.append("\n".join(["Results:"] + ["    %s%s" % (name, ", in " + one["unit"] if one.get("unit") else "") for name, one in results.items()]))
    return "\n\n".join(lines)


def _line(one):
    words = [one["name"], one["kind"] if one["kind"] != "any" else ""]
    if "choices" in one:
        words[1] = "one of %s" % ", ".join(map(repr, one["choices"]))
    if one.get("unit"):
        words.append("in " + one["unit"])
    if "minimum" in one or "maximum" in one:
        words.append("from %s to %s" % (one.get("minimum", "any"), one.get("maximum", "any")))
    text = ", ".join(word for word in words if word)
    return text + (": " + one["help"] if one.get("help") else "")
