"""What is raised where a world sees at once that a law is broken."""

from __future__ import annotations


class Violation(Exception):
    """A law of the world was broken; the text says which, and where."""
