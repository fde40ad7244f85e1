"""The Open Inference Protocol over a repository: reading requests, answering them, making replies."""
