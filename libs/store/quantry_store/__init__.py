"""Quantry's tables, repositories and the transactions on them."""
