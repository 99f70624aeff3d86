"""How soon the dashboard shows its views where there is much to show, and what an open tab costs its server."""
