"""Queues: what waits where."""
