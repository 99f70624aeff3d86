"""The public origin: an OpenAI-compatible data plane, and the door to the control plane."""
