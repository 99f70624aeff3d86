"""The seal: staged files are re-hashed into the vault."""
