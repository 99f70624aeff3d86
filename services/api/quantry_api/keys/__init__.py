"""API keys: made, listed, revoked; and who a key stands for."""
