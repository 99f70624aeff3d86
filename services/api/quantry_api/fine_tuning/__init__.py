"""OpenAI's fine-tuning API: fine-tune jobs as its clients submit, list, follow and cancel them."""
