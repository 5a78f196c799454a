"""What is remembered: bytes, positions, and who they belong to.

This room's law: it never knows what a model is. It is given rows (names and bytes) and a
position, makes both durable in one atomic step, and gives back exactly those bytes or says that
it cannot. It imports no other room, reads no clock and decides nothing; a store that went back
silently, a digest that was not checked, or a directory that belongs to another log would each
break a promise of the service, so all three are refused here, with a text that says what to do.
RocksDB is named in this room only.
"""
