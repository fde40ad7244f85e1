"""The services of the mesh; each folder is one."""
