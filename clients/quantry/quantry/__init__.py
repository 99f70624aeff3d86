"""SDK and command line of Quantry."""
