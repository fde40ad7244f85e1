"""Exporting under pytest: torch writes a trace of every step of it to whoever listens at level DEBUG, which pytest does."""

from __future__ import annotations

import logging

logging.getLogger("torch.__trace").propagate = False
