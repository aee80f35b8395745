"""The version of the package, which the child reports in `ready`."""

__version__ = "0.1.0"
