"""Retention: what is kept how long, and the runs that remove what is over."""
