"""Crash tests: the worker is killed again and again, the broker is a process apart.

In the end the state on disk, the decision topics and the quarantine must be what the offline fold
makes of the input topics. `make crash` runs the long campaigns, pytest a short one and the
negative controls: the same harness with one protection taken away must find differences.
"""
