"""The asynchronous SDK: the same methods, awaited. Programs are followed by the event loop; short requests run on threads."""
