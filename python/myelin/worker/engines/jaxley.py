"""Jaxley: scripts with `jaxley`, `jx`, `jax`, `jnp` and `np`. JAX is imported but not initialised, so that sessions can be forked.

Compiled programs are kept in .cache of ~/work. A running compiled simulation can't be interrupted; Python between them can.
"""

import os

from . import Engine


_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_numpy_dtype_promotion", "jax_debug_nans")


class JaxleyEngine(Engine):
    name = "jaxley"
    why_no_branches = "JAX starts threads at its first computation; checkpoints and branches keep the state's arrays, models and functions instead"
    saves = True

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
            return "JAX has started its threads, and a copy of them would hang"
        return None

    def save(self):
        return {name: getattr(self.jax.config, name) for name in _SETTINGS}

    def load(self, saved):
        for name, value in saved.items():
            self.jax.config.update(name, value)

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
