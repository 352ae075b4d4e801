"""Functions that the server offers by name, as Python."""
