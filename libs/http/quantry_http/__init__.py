"""What every control-plane service shares: the auth dependency, problem documents, pages, health."""
