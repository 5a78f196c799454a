"""Headrace leads event streams onto online models and turns what they know into decisions.

This package is the ground floor: errors, configuration, the clock, logs and the few Protocols
that rooms share. It imports no room; every room may import it.
"""

__version__ = "0.1.0"
