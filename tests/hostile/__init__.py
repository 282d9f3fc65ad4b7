"""Bytes and strings that nobody honest wrote: they cost a result or an error of kvflow's, and nothing else.

Each kind of input is an ``Attack``: what is tried, and what is done with it. ``attack.run`` tries so many, and every
one is watched: no error but kvflow's own, no code, no file but the store's, little memory, little time.
"""
