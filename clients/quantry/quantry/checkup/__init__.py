"""What ``quantry doctor`` looks at: this machine, and the installation that it talks to."""
