"""Plain Python; numpy as `np` if it can be imported."""

from . import Engine


class PythonEngine(Engine):
    def __init__(self):
        super().__init__()
        try:
            import numpy
        except ImportError:
            numpy = None
        self._numpy = numpy

    def versions(self):
        versions = super().versions()
        if self._numpy is not None:
            versions["numpy"] = self._numpy.__version__
        return versions

    def names(self):
        return {} if self._numpy is None else {"np": self._numpy, "numpy": self._numpy}


def load():
    return PythonEngine()
