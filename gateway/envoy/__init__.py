"""Everything that speaks Envoy: pure rendering of its resources, the files they lie in, and its process."""
