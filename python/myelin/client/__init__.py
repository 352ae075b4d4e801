"""Client of a Myelin server, or of any NEST Server: the calls of PyNEST, made over HTTP.

    from myelin.client import NESTServerClient
    nsc = NESTServerClient(token="…")
    neurons = nsc.Create("iaf_psc_alpha", 100)
    nsc.Simulate(1000.0)

Needs the standard library only. Where numpy is installed, arrays arrive as numpy arrays.
"""

from .nest import BadRequest, NESTServerClient, NESTServerError

__all__ = ["BadRequest", "NESTServerClient", "NESTServerError"]
