"""Replicas as pods of a cluster."""
