"""Uploads: files of a checkpoint that a client sends, to be imported."""
