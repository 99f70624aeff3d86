"""Webhooks: endpoints, and the loop that sends."""
