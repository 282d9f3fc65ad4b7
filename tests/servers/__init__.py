"""Real servers for the tests, started and ended by the tests.

Each server is one process (or a few) on free loopback ports, in a directory of its own below one temporary directory
of the session. Whatever ends the session, a failing test, Ctrl-C or `kill -9`, the servers end and the directory goes.
"""
