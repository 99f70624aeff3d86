"""Checkpoints of training jobs: the files that another attempt goes on from."""
