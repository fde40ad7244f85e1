"""`sensorium up`: the gateway and its replicas as processes of one machine, from start to drain."""
