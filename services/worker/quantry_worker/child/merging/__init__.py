"""Adapters become part of 16-bit weights: combined, written tensor by tensor, checked, and measured against leaving them beside."""
