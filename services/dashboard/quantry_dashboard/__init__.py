"""The MLOps dashboard: one more client of the public API."""
