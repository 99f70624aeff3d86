"""What the platform adds to an engine's start, and how quick a rollback is: python -m bench.deploy"""
