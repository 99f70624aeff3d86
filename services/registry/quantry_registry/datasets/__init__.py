"""Datasets: versioned texts."""
