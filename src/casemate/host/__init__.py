"""What this host can do, and the parts of it that containers use."""
