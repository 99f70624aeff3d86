"""S3 behind one small protocol: staging, seal, vault, with a digest on every way."""
