"""The gateway: pure parts, and the whole of it with the real Envoy and small real replicas."""
