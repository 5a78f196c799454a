"""The command line: composition, so it may see every room. It computes nothing itself."""
