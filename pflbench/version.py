"""The version of pflbench."""

__version__ = "0.1.0"
