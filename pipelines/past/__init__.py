"""States that a shard had once: made again beside it, asked, and held against its decisions.

Nothing here touches a live shard. `timeline` says which state there was when, `derivation` makes it
again from a snapshot and the log, `opened` keeps some at hand, `answers` and `verifying` ask them.
"""
