"""Deployments: what is served, stopped and started."""
