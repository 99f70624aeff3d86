"""Backups of an installation: the database and every blob that it refers to, and bringing both back."""
