"""Real programs of a Debian 12 root, run under runc and under an isolation: `make compat`."""
