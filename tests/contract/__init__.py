"""The contract of protos/ against the last released one."""
