"""Pool drivers: what runs the engines of a deployment."""
