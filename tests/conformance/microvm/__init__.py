"""Judges of the monitor's API: programs and libraries written for Firecracker, and a generator of requests."""
