"""The routes that gateways follow by long-poll."""
