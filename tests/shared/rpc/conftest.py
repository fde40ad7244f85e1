"""Both fronts for every test that asks for `front`."""

from tests.support.serving import front

__all__ = ["front"]
