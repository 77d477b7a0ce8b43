"""The one place that states the version; the build and ``escnet_d2.__version__`` read it here."""

__version__ = "0.1.0"
