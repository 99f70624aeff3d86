"""The table of quantization methods, shown."""
