"""Quantry's vocabulary: ids, jobs, versions, rollouts, messages, errors."""
