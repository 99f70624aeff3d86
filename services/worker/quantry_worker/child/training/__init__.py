"""Training in the child: bases, adapters, samples, the trainers of each method, checkpoints, and what came of it."""
