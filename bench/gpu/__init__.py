"""What needs a GPU to say anything."""
