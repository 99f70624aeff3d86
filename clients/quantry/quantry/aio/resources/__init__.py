"""One class per noun of the API."""
