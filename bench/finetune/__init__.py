"""What a fine-tune job costs beside a bare script of TRL."""
