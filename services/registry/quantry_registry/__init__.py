"""Models, versions, files, lineage, datasets, and the seal."""
