"""What the gateway and the services share: errors, settings, and the rooms `rpc`, `telemetry` and `inference`."""
