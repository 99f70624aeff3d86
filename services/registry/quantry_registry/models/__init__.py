"""Models and their aliases."""
