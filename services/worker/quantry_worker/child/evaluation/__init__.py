"""What is measured of a version: figures on text, attention, odd inputs, tasks, speed; and the verdicts on them."""
