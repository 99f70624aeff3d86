"""Preflight: what a job will take, and which queue it goes to."""
