"""The conformance gate: no quantized checkpoint is ready before it passed."""
