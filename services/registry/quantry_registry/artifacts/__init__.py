"""Files that jobs left beside versions and evidence: raw results."""
