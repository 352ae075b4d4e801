"""Myelin: a server for neuroscience simulators. Importing this costs nothing; the client is loaded on first use."""

__version__ = "0.1.0"


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module 'myelin' has no attribute '{name}'")
    import importlib

    try:
        client = importlib.import_module("myelin.client")
    except ImportError:
        client = None
    if name == "client" and client is not None:
        return client
    try:
        return getattr(client, name)
    except AttributeError:
        raise AttributeError(f"module 'myelin' has no attribute '{name}'") from None
