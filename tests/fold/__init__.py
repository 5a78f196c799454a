"""The offline fold: what every key's state and every decision must be, by River alone.

It reads logs and nothing else, and it is a second opinion: written by hand from docs/spec.md, slow
and plain, one record at a time, with a copy of the model for every question. It imports neither the
learner nor the shard nor what they stand on; a test holds that. The codec is used in one place, to
compare River models with stored bytes. `compare` tells in sentences where the service differs.
"""
