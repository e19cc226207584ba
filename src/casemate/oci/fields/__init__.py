"""One file per section of config.json: how its fields become operations."""
