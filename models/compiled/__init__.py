"""Models that are computed without River's objects, and are River's to the last bit.

The law of this package: for any events, a compiled model forecasts what River's own would, and its
bytes are those of River's own. `tests/models/test_compiled.py` holds it to that. What is compiled
is what most agents run and where River's dispatch costs more than its arithmetic.
"""
