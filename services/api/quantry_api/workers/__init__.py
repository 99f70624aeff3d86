"""Workers: what they say of themselves."""
