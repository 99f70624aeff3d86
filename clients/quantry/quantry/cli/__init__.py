"""The ``quantry`` command."""
