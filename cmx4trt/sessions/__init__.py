"""What executes a graph or an engine: the interface, and the two sessions that need no backend."""
