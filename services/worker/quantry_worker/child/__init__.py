"""What runs in the child process of a job, in the environment of its backend."""
