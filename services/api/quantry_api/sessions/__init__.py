"""Sessions: a short-lived key for whoever a provider says it is."""
