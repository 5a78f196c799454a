"""The read path: gRPC in, answers out.

The room's law. Serving reads live shards through the Protocols of `headrace.ports` and changes
nothing itself: what should teach is appended to an agent's input log (`EventSink`), what should
steer is appended to the control log (`Controls`). It runs on the same event loop as the shards, so
every handler is a real `async def`, no handler blocks, and everything that waits, queues or grows
has a bound in `headrace.serving.limits`. Every error leaves through the one table in
`headrace.serving.status`; every answer names the state that it used. It imports the ground floor
and `models`, never `pipelines`. gRPC and protobuf stay in this room.
"""
