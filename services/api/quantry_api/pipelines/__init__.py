"""Pipelines: submitted, listed, cancelled, tried again."""
