"""What a host can do, what a sandbox can reach, what runs: read from the kernel and shown to people. Never imported by an OCI verb."""
