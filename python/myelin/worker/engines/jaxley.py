"""Jaxley: scripts with `jaxley`, `jx`, `jax`, `jnp` and `np`. JAX is imported but not initialised, so that sessions can be forked.

Compiled programs are kept below ~/work/.cache. A running compiled simulation can't be interrupted; Python between them can.
"""

import os

from . import Engine


class JaxleyEngine(Engine):
    name = "jaxley"
    why_no_branches = "JAX starts threads at its first computation; keep the state's arrays instead"

    def __init__(self):
        super().__init__()
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault("MPLBACKEND", "Agg")
        import jax
        import jax.numpy
        import jaxley
        import numpy

        self.jax, self.jaxley, self.numpy = jax, jaxley, numpy

    def versions(self):
        versions = super().versions()
        for module in (self.jaxley, self.jax, self.numpy):
            versions[module.__name__] = getattr(module, "__version__", "unknown")
        return versions

    def names(self):
        return {
            "jaxley": self.jaxley,
            "jx": self.jaxley,
            "jax": self.jax,
            "jnp": self.jax.numpy,
            "np": self.numpy,
        }

    def hooks(self):
        return [(self.jax.Array, lambda value: self.numpy.asarray(value))]

    def branch_obstacle(self):
        from jax._src import xla_bridge

        if xla_bridge._backends:
            return (
                "JAX has started its threads, and a copy of them would hang; keep the state's arrays instead: "
                "a checkpoint of a Jaxley session is what `return` gives, put back by a script"
            )
        return None

    def open(self, session):
        super().open(session)
        # read at import, and the zygote's home isn't the session's
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if cache:
            try:
                os.makedirs(cache, exist_ok=True)
                self.jax.config.update("jax_compilation_cache_dir", cache)
            except (OSError, AttributeError):
                pass


def load():
    return JaxleyEngine()
