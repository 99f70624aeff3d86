"""Readers of quantized checkpoints, one file per layout: numpy alone, and none of the libraries that wrote them."""
