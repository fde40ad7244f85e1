"""The `sensorium` command: the mesh on one machine, its models, and calls to it. Over everything else."""
