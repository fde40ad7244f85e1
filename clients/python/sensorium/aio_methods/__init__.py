"""The calls of the asyncio client by subject; each is a method of `sensorium.aio.AsyncClient`."""
