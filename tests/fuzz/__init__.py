"""`make fuzz`: random system calls in a sandbox whose sentry must bear them."""
