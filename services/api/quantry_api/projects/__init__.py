"""The caller's project."""
