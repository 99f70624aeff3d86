"""Rollouts: begun, looked at, and what people ask of them."""
