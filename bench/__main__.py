"""All benches of kvflow's own: ``python -m bench [STORE ...] [--quick] [--results DIR]``. Each server starts once."""

from bench.command import main
from bench.engine import ENGINE
from bench.growth import GROWTH
from bench.scale import SCALE
from bench.speed import SPEED
from bench.stores import STORES

if __name__ == "__main__":
    raise SystemExit(main([STORES, ENGINE, GROWTH, SPEED, SCALE], "bench", "What kvflow costs, as ratios."))
