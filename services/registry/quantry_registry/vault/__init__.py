"""Runs over the whole vault: verification and garbage collection."""
