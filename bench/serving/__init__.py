"""What the benchmarks of rollouts share: checkpoints of the example master, bare engines, clients with a rate."""
