"""The whole system: real gateway, real services, real models."""
