"""The write path: from a record of an input log to changed models, durable state and decisions.

This room's law: nothing changes a model except a record of its input log at a definite offset, or
a control record at a position that the control log states. And the order is sacred: decisions are
acknowledged first, then state is written in one step, then positions are committed. So a durable
state implies durable decisions, and a committed offset implies durable state. Faust and aiokafka
are named in this room only; it sees the floor, `models` and `state`, never `serving`.
"""
