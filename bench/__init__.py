"""Benchmarks. Each prints a table and writes JSON and Markdown to bench/results, always as a ratio to a peer or a floor of the same run."""
