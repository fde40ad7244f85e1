"""From an upright image to a graph's input, and from its output to an answer; one module per task, pure functions."""
