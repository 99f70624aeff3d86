"""Captured prompts of deployments, scrubbed, as datasets."""
