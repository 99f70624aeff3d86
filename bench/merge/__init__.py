"""What becomes of an adapter that was trained on a quantized base: merged, merged elsewhere, or left beside it."""
