"""Schedules: their endpoints, and the loop that fires what is due."""
