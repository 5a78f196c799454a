"""What is learned: specs, guards, models per key, decisions, metrics, and the bytes of all that.

The law of this room: it is pure. The same records over the same rows give the same decisions and
the same rows, in whatever batches they come and wherever a restart falls between them. So nothing
here does I/O, reads a clock or draws from chance that is not seeded by agent and key; Kafka, disks
and gRPC are unknown. Asking a model changes nothing; only an event changes it, and an event that
is refused leaves it as it was. River and numpy are imported here and nowhere else, and no bytes
are turned into objects but by the codec's closed table of classes.

Begin at `learner`, the step. Four packages stand beside the single files: `spec` (what a user
deploys), `catalog` (what a model may be made of), `codec` (bytes) and `recommend` (rankers).
"""
