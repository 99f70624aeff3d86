"""What every service tells of itself: log lines, metrics, traces, the state of its GPUs."""
