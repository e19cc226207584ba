"""What a guest is made of: kernels, and the initial file system with the agent in it."""
