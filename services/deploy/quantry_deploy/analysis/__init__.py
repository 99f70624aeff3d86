"""How evidence becomes verdicts: pure functions over what gateways counted. See docs/analysis.md."""
