"""The rollout controller and its pool drivers."""
