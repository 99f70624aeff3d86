"""How many pairs tell a corrupted candidate from a sound one: python -m bench.shadow"""
