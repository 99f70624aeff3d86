"""The control plane: jobs, deployments, keys, the execution API and its sweeps."""
