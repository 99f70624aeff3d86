"""One repository per aggregate. They query and write inside the caller's transaction and return quantry_core models."""
