"""How often verdicts on a candidate are wrong although they are looked for a hundred times, and how soon they come."""
