"""`sensorium models tune`: which batch size, threads and instances serve a model best on this machine."""
