"""What every method makes of the example master, and what it costs."""
