"""A session's globals as bytes, for engines whose process can't be copied (section 7 of worker-protocol.md).

What a script made is pickled as one graph, so that what was shared stays shared: numbers, text, containers, arrays, models, functions
and classes of the script itself, modules by their name. What can't be (a generator, a lock, an open file) is left out and named.

The bytes are loaded again only in a sandbox of the same user: loading a pickle runs what it says.
"""

import collections
import dataclasses
import importlib
import io
import json
import marshal
import os
import pickle
import random
import sys
import types
import weakref

from . import rope

_OWN = ("__builtins__", "__name__", "__doc__", "__annotations__")
_MOST_NAMED = 200
_live = weakref.WeakValueDictionary()  # token -> function of this process
_tokens = weakref.WeakKeyDictionary()
# What dataclasses tell apart by identity.
_MARKS = {
    type(dataclasses.MISSING): lambda mark: "MISSING",
    type(dataclasses._FIELD): lambda mark: mark.name,
}


class _Nowhere(io.RawIOBase):
    def write(self, data):
        return memoryview(data).nbytes


def _found_by_name(thing):
    """Whether an import finds the same object: then its name is enough."""
    found = sys.modules.get(getattr(thing, "__module__", None) or "")
    if found is None or found.__name__ == "__main__":
        return False
    try:
        for part in thing.__qualname__.split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    return found is thing


class _Pickler(pickle.Pickler):
    def __init__(self, file, space):
        super().__init__(file, 5)
        self._space = space

    def persistent_id(self, thing):
        return "globals" if thing is self._space else None

    def reducer_override(self, thing):
        kind = type(thing)
        if kind is types.FunctionType:
            return NotImplemented if _found_by_name(thing) else self._function(thing)
        if kind is types.ModuleType:
            return importlib.import_module, (thing.__name__,)
        if kind is types.CellType:
            return _cell, (), _contents(thing), None, None, _fill
        if kind is property:
            return property, (thing.fget, thing.fset, thing.fdel, thing.__doc__)
        if kind is types.MappingProxyType:
            return _read_only, (dict(thing),)
        if kind in _MARKS:
            return getattr, (dataclasses, _MARKS[kind](thing))
        if kind is staticmethod or kind is classmethod:
            return kind, (thing.__func__,)
        if issubclass(kind, type):
            if thing.__module__ == "__main__":
                return self._class(thing)
            module, name = sys.modules.get(thing.__module__), thing.__qualname__.rpartition(".")[2]
            if name != thing.__qualname__ and getattr(module, name, None) is thing:  # as jax.Array, whose name is longer than its place
                return getattr, (module, name)
            return NotImplemented
        if callable(thing) and isinstance(getattr(thing, "__wrapped__", None), types.FunctionType) and self._never_changes(thing):
            # A compiled function whose source is as it was: what is compiled already need not be so again.
            reduced = thing.__reduce_ex__(5)
            if isinstance(reduced, tuple):
                return _again, (_token(thing), self._home_of(thing.__wrapped__), _Made(reduced[0], reduced[1])), *reduced[2:]
        return NotImplemented

    def _function(self, function):
        space = self._home_of(function)
        token = _token(function) if self._never_changes(function) else None
        state = (function.__defaults__, function.__kwdefaults__, function.__dict__, function.__annotations__, function.__doc__,
                 function.__module__, function.__qualname__)
        return _function, (token, marshal.dumps(function.__code__), space, function.__name__, function.__closure__), state, None, None, _complete

    def _home_of(self, function):
        """Its globals: the session's, or the module that they are."""
        space = function.__globals__
        if space is self._space:
            return space
        module = sys.modules.get(space.get("__name__"))
        if module is None or vars(module) is not space:
            raise pickle.PicklingError(f"the function {function.__qualname__} belongs to globals that are no more")
        return module

    def _never_changes(self, thing):
        """Whether calls of a function depend on nothing but its arguments and the globals: the one that is there now will do later."""
        if type(thing).__name__ == "PjitFunction":
            thing = thing.__wrapped__
        if type(thing) is not types.FunctionType:
            return False
        return not (thing.__defaults__ or thing.__kwdefaults__ or thing.__closure__ or thing.__dict__)

    def _class(self, cls):
        skipped = {"__dict__", "__weakref__", *_slots(cls)}
        if issubclass(cls, tuple) and "_field_defaults" in cls.__dict__:  # a named tuple: its functions come with it
            skipped.update(_named_tuple("x", cls._fields, {}).__dict__)
            members = {name: value for name, value in cls.__dict__.items() if name not in skipped}
            return _tuple_class, (_token(cls), cls.__name__, cls._fields, cls._field_defaults), members, None, None, _furnish
        members = {name: value for name, value in cls.__dict__.items() if name not in skipped}
        first = {name: members.pop(name) for name in ("__slots__", "__module__", "__qualname__", "__doc__") if name in members}
        return _class, (_token(cls), type(cls), cls.__name__, cls.__bases__, first), members, None, None, _furnish


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, space):
        super().__init__(file)
        self._space = space

    def persistent_load(self, name):
        if name != "globals":
            raise pickle.UnpicklingError(f"unknown reference {name!r}")
        return self._space


def _token(thing):
    token = _tokens.get(thing)
    if token is None:
        token = _tokens[thing] = os.urandom(12)
        _live[token] = thing
    return token


def _contents(cell):
    try:
        return (cell.cell_contents,)
    except ValueError:  # empty
        return None


def _read_only(members):
    return types.MappingProxyType(members)


def _cell():
    return types.CellType()


def _fill(cell, contents):
    cell.cell_contents = contents[0]


def _slots(cls):
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


class _Made:
    """A call that is made only if the object of before is gone."""

    def __init__(self, function, args):
        self.function, self.args = function, args


def _again(token, home, made):
    thing = _live.get(token)
    return thing if thing is not None and thing.__wrapped__.__globals__ is _globals_of(home) else made.function(*made.args)


def _globals_of(home):
    return home if type(home) is dict else vars(home)


def _function(token, code, home, name, closure):
    function = _live.get(token)
    if function is None or function.__globals__ is not _globals_of(home):
        function = types.FunctionType(marshal.loads(code), _globals_of(home), name, None, closure)
    return function


def _complete(function, state):
    (function.__defaults__, function.__kwdefaults__, attributes, function.__annotations__, function.__doc__,
     function.__module__, function.__qualname__) = state
    function.__dict__.clear()
    function.__dict__.update(attributes)


def _class(token, metaclass, name, bases, members):
    return _live.get(token) or metaclass(name, bases, dict(members))


def _named_tuple(name, fields, defaults):
    return collections.namedtuple(name, fields, defaults=[defaults[field] for field in fields if field in defaults], module="__main__")


def _tuple_class(token, name, fields, defaults):
    return _live.get(token) or _named_tuple(name, fields, defaults)


def _furnish(cls, members):
    own = (*members, *_slots(cls), *getattr(cls, "_fields", ()))
    for name in [name for name in cls.__dict__ if name not in own and not name.startswith("_")]:
        delattr(cls, name)
    for name, value in members.items():
        if cls.__dict__.get(name, cls) is not value:
            try:
                setattr(cls, name, value)
            except AttributeError:
                pass  # what the class made itself, as __abstractmethods__


def _why(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__


class Saved:
    """A state in a sealed memory file, as the answer to `save`: a rope of an object {"left_out", "state"}."""

    def __init__(self, space, engine):
        self.fd = os.memfd_create("myelin-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(self.fd, "w+b", buffering=1 << 16, closefd=False) as file:
                self.left_out = save(file, space, engine)
                self.size = file.seek(0, os.SEEK_END)
            rope.seal(self.fd)
        except BaseException:
            os.close(self.fd)
            raise

    def pack(self):
        """(body, fd) of the result frame; the caller closes the memory file."""
        left_out = self.left_out[:_MOST_NAMED]
        if len(self.left_out) > len(left_out):
            left_out.append({"name": "…", "why": f"and {len(self.left_out) - len(left_out)} more"})
        return rope.pack_file(b'{"left_out":' + json.dumps(left_out).encode() + b',"state":', self.fd, self.size, b"}"), self.fd


class Incoming:
    """A state that comes in parts."""

    def __init__(self):
        self._file = open(os.memfd_create("myelin-state", os.MFD_CLOEXEC), "w+b", buffering=0)

    def add(self, part):
        view = memoryview(part)
        while view:
            view = view[self._file.write(view) :]

    def load(self, space, engine):
        self._file.seek(0)
        load(io.BufferedReader(self._file, 1 << 16), space, engine)

    def close(self):
        self._file.close()


def save(file, space, engine):
    """Writes the state to a binary file. What was left out: [{"name", "why"}]."""
    content = {name: value for name, value in space.items() if name not in _OWN}
    whole = {"globals": content, "annotations": space.get("__annotations__"), "random": random.getstate(), "engine": engine.save()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        whole["numpy"] = numpy.random.get_state()
    start = file.tell()
    left_out = []
    try:
        _Pickler(file, space).dump(whole)
    except Exception:
        for name in list(content):
            try:
                _Pickler(_Nowhere(), space).dump(content[name])
            except Exception as error:
                del content[name]
                left_out.append({"name": str(name), "why": _why(error)})
        file.seek(start)
        file.truncate()
        _Pickler(file, space).dump(whole)
    file.flush()
    return left_out


def load(file, space, engine):
    """Puts a saved state into the globals `space`, in place of what is there. Raises before it has changed them if it can't."""
    whole = _Unpickler(file, space).load()
    content = whole["globals"]
    for name in [name for name in space if name not in _OWN]:
        del space[name]
    space.pop("__annotations__", None)
    if whole["annotations"] is not None:
        space["__annotations__"] = whole["annotations"]
    space.update(content)
    random.setstate(whole["random"])
    if "numpy" in whole:
        import numpy

        numpy.random.set_state(whole["numpy"])
    engine.load(whole["engine"])
