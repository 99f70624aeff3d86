"""What a job type does, one file each, to be read from top to bottom."""
