"""The gateway: an Envoy data plane and the control plane that renders, feeds and supervises it."""
