"""Worker hosts: enrolled by one-time tokens, listed, revoked."""
