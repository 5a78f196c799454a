"""A kill or an error at every system call by which state becomes durable.

What is worked on is the real shard, vault, store and repository, over logs that outlive the
process (`journal`). A server forks one process for each fault (`forks`), strace attaches to it and
strikes (`strike`), and another process judges what is left and goes on from there (`judging`).
"""
