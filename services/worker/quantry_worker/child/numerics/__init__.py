"""Numbers: text into windows, tensors on disk, perplexity, divergence."""
