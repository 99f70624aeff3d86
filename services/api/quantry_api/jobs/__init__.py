"""Jobs: submitted, listed, cancelled, watched."""
