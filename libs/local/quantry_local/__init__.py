"""The embedded stack: Postgres, Redis, S3 and every service on one machine."""
