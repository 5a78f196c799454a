"""Whole worlds in one process: the real worker, shards, store and step over logs in memory.

One seed is one world: when every record comes, how every chunk is cut, lost and doubled, how long
every acknowledgement, write and commit takes, and at which await a worker dies. Time is virtual and
nothing runs in threads, so a seed replays exactly. At the end of each world the offline fold says
what every row, decision and quarantined event must be.
"""
