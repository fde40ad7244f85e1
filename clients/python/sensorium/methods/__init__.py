"""The calls of the ordinary client by subject; each is a method of `sensorium.client.Client`."""
