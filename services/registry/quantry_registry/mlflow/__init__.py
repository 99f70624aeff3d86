"""MLflow's registry API: its clients find, tag, alias and download what Quantry holds."""
