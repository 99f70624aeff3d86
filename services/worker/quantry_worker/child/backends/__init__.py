"""The libraries that quantize, each behind one function."""
