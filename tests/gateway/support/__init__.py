"""What the gateway's tests start from: a toy contract, its replicas, and a running gateway."""
