"""Models: artifacts, their sessions, batching, the repository, and the Open Inference Protocol over it."""
