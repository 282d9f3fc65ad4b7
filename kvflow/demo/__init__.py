"""``kvflow demo``: workers that are real processes, one of which is killed, and an account of what came of it.

Begin with ``kvflow.demo.orders``, the workflow. What its steps do to the outside is in ``kvflow.demo.shop``, which
notes each call in a journal of its own; ``kvflow.demo.account`` holds that journal against what the store says.
"""
