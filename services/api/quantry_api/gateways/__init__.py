"""What gateways tell: how requests went, and the prompts that they captured."""
