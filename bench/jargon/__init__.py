"""How well a model learns a domain that it does not know: LoRA on the master beside QLoRA on its 4-bit weights."""
