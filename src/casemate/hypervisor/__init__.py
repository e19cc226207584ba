"""Hypervisors behind one interface: which there are, which this host can run, and how a machine is started with each."""
