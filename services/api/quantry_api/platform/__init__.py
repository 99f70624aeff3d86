"""The installation itself: what it says of how it is."""
