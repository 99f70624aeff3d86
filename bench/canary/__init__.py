"""A canary with real engines to its promotion, and bad candidates to their rollback: python -m bench.canary"""
