"""What worker and control plane both know of recalibrations."""

COMPARISON_PREFIX = "recalibration:"
"""Begins the name of the evidence that compares a candidate with the version that serves, on one corpus."""
