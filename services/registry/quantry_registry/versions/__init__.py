"""Versions, their lineage and their files."""
