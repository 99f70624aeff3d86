"""The SDK as it is written: asynchronous. What waits, ``quantry.client`` and beside it, is made from these files by make_sync.py."""
