# type: ignore  # what it imports is in the peer's environment only
"""LangGraph: a graph of five nodes in a row on the Postgres checkpointer, with ``durability="sync"``.

A checkpointer has a lock, so those that share one take turns on one connection, whatever pool it was given. So many
runs at once have as many checkpointers on one pool, up to the pool's size, in threads.
"""

import asyncio
import queue
import sys
from importlib.metadata import version
from time import perf_counter
from typing import TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from bench.peers import proof
from bench.peers.speaking import each, speak

POOL = 20

State = TypedDict("State", {"run": str, **{f"step{at}": str for at in range(proof.STEPS)}, "output": str}, total=False)


def node(at):
    def step(state):
        given = {f"step{at}": proof.step(state["run"], at)}
        if at + 1 == proof.STEPS:  # the run's result is part of what the last step leaves
            given["output"] = proof.output([(state | given)[f"step{number}"] for number in range(proof.STEPS)])
        return given

    return step


def graph(checkpointer):
    builder = StateGraph(State)
    names = [f"node{at}" for at in range(proof.STEPS)]
    for at, name in enumerate(names):
        builder.add_node(name, node(at))
    for one, next_one in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(one, next_one)
    return builder.compile(checkpointer=checkpointer)


class LangGraph:
    def __init__(self, url):
        options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self.pool = ConnectionPool(url, min_size=1, max_size=POOL, kwargs=options, open=True)
        self.free = queue.SimpleQueue()

    def about(self):
        self.saver = PostgresSaver(self.pool)
        self.saver.setup()
        for _ in range(POOL):
            self.free.put(graph(PostgresSaver(self.pool)))
        versions = f"{version('langgraph')}, checkpointer {version('langgraph-checkpoint-postgres')}"
        return {"peer": "LangGraph", "version": versions, "journals": "results"}

    async def runs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        threads = min(at_once, POOL)
        begin = perf_counter()
        await asyncio.to_thread(each, threads, self._run, names)
        seconds = perf_counter() - begin
        return {"seconds": seconds, "way": f"invoke, {threads} thread(s)", "ids": names}

    def _run(self, run):
        free = self.free.get()
        try:
            return free.invoke({"run": run}, {"configurable": {"thread_id": run}}, durability="sync")
        finally:
            self.free.put(free)

    def prove(self, ids):
        """What the last checkpoint of each has, and what each checkpoint has of a step that the one before has not."""
        outputs, journal = {}, {}
        for thread_id, run in ids.items():
            seen = {}
            for one in reversed(list(self.saver.list({"configurable": {"thread_id": thread_id}}))):
                kept = one.checkpoint["channel_values"]
                seen |= {key: value for key, value in kept.items() if key.startswith("step") and key not in seen}
                outputs[run] = kept.get("output")
            journal[run] = list(seen.values())
        return {"outputs": outputs, "journal": journal}

    def close(self):
        self.pool.close()


if __name__ == "__main__":
    speak(LangGraph(sys.argv[1]))
