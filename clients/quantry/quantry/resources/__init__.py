# Made from quantry/aio/resources/__init__.py by make_sync.py: change that file, and run this again.
"""One class per noun of the API."""
