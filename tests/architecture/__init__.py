"""Rules about the tree itself: layering, protos, stubs, sizes."""
