"""Clients of a Myelin server.

    import myelin
    with myelin.Client().session("nest") as session:
        result = session.exec("n = nest.Create('iaf_psc_alpha', 3)\\nnest.Simulate(10.)\\nv = n.V_m", returns="v")

``Client`` speaks the native API: sessions, branches, streams, jobs, runs. ``NESTServerClient`` makes the calls of PyNEST, on any
NEST Server too. In a notebook ``%load_ext myelin`` adds ``%%myelin``. The standard library is all they need; where numpy is
installed, arrays arrive as numpy arrays.
"""

from . import errors
from .errors import *  # noqa: F401,F403 - one class for each code
from .functions import Function, Functions
from .native import Checkpoint, Client, Files, Job, Loop, Result, Run, Session, Stream, Tokens
from .nest import BadRequest, NESTServerClient, NESTServerError

__all__ = ["BadRequest", "Checkpoint", "Client", "Files", "Function", "Functions", "Job", "Loop", "NESTServerClient", "NESTServerError", "Result", "Run", "Session",
           "Stream", "Tokens", "load_ipython_extension", "unload_ipython_extension", *(n for n in errors.__all__ if n[0].isupper())]


def load_ipython_extension(shell):
    """``%load_ext myelin``."""
    from .magic import load

    load(shell)


def unload_ipython_extension(shell):
    from .magic import unload

    unload(shell)
