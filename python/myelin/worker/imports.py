"""Watches imports: which module starts the first thread beside the main one. A zygote that has one can't be forked."""

import os
import sys
from importlib import machinery

_LOADERS = (machinery.SourceFileLoader, machinery.SourcelessFileLoader, machinery.ExtensionFileLoader)


def thread_count():
    return os.stat("/proc/self/task").st_nlink - 2


class Watch:
    """Use as a context; `culprit` is the module's name, "" if there is none."""

    def __init__(self):
        self.culprit = ""
        self._threads = thread_count()

    def __enter__(self):
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *error):
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                # each module that comes from a file has a loader of its own; extensions run code in both steps
                if type(spec.loader) in _LOADERS:
                    for step in ("create_module", "exec_module"):
                        setattr(spec.loader, step, self._watched(getattr(spec.loader, step), name))
                return spec
        return None

    def _watched(self, run, name):
        def watched(argument):
            result = run(argument)
            if not self.culprit and thread_count() > self._threads:
                self.culprit = name  # the innermost: it ends first
            return result

        return watched
