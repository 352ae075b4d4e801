"""Adapters of engines. Each module has `load()`, which imports the engine without starting a thread and returns an Engine."""

import importlib
import os
import platform

from .. import imports, openmp

NAMES = ("nest", "neuron", "jaxley", "python")


class Engine:
    """What a session needs of an engine; the defaults are those of plain Python."""

    name = "python"
    interruptible = True
    why_no_branches = ""  # a sentence, where sessions of this engine never branch once they worked
    saves = False  # checkpoints and branches are made of what its globals hold, not of its process

    def __init__(self):
        self.methods = {"recorders": lambda name, args, kwargs: []}  # method -> function(name, args, kwargs); `list` takes nothing
        self.session = None

    def versions(self):
        """Name -> version text."""
        return {"python": platform.python_version()}

    def version(self):
        """The answer of the method `version`."""
        return self.versions()

    def names(self):
        """Globals that every script finds."""
        return {}

    def hooks(self):
        """(type, function) for results: the function gives a value nearer to JSON."""
        return []

    def kernel_errors(self):
        """Exception classes that the engine's kernel raises."""
        return ()

    def open(self, session):
        """Called once in the child, before the first call."""
        self.session = session

    def facts(self):
        """What a run's record tells beside its code: {"seeds": {name: number}}."""
        return {"seeds": {}}

    def step(self, request):
        """One step of a closed loop: set, advance, get."""
        raise ValueError('this engine knows steps only as functions of the session: define one by a script, then {"call": "step", "args": […]}')

    def follow(self, send):
        """Someone wants what recorders record: `send(dict)` gets it, at slices; None: nobody does any more. First comes what is
        there already."""

    def flush(self):
        """Called at the end of each call that is followed: sends what was recorded since."""

    def branch_obstacle(self):
        """Why a session of this engine can't branch now; None if it can."""
        return None

    def before_branch(self):
        """Called before the process is copied: pauses the engine's own threads; here OpenMP's."""
        if imports.thread_count() > 1:
            openmp.pause()

    def save(self):
        """Of an engine that saves: what its results depend on beside the globals; pickled, and given to `load`."""

    def load(self, saved):
        """Puts back what `save` gave."""

    def before_result(self):
        """Called when a call has run, before its result is encoded; may raise KeyboardInterrupt that's still owed."""

    def after_call(self, meta, failure):
        """Called after each call; says by session.state what changed."""


def load(name):
    """The engine of that name; ImportError if it can't be imported, ValueError if there's no such engine."""
    if name not in NAMES:
        raise ValueError(f"unknown engine '{name}'")
    # numpy's and other libraries start their threads at import; a session sets its own numbers after the fork
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[variable] = "1"
    return importlib.import_module(f"{__name__}.{name}").load()
