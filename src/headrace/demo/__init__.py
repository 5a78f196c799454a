"""What ships to be tried out: two scenes on real input, and what they are measured against.

It stands above the service, as the command line does: it deploys the shipped agents by the same
gRPC calls as anybody, feeds their topics, and reads their decisions back.
"""
