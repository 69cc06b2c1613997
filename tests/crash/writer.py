"""Kills writers at random moments: `python writer.py PLACE COUNT SEED A B`, A and B directories of two packages.

Forks COUNT times a child that writes A and B to PLACE in turn, without end; kills it (-9) after a random time; prints
what PLACE holds then: A, B, or what is wrong. One process, so that a kill costs milliseconds.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from basisgen.emission.write import read_package, write_package


def main(place: Path, count: int, seed: int, a: Path, b: Path) -> None:
    packages = {"A": read_package(a), "B": read_package(b)}
    start = time.monotonic()
    for content in packages.values():
        write_package(content, place)
    cycle, times = time.monotonic() - start, random.Random(seed)
    for _ in range(count):
        child = os.fork()
        if not child:
            while True:
                for content in packages.values():
                    write_package(content, place)
        time.sleep(times.uniform(0, 1.5 * cycle))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = read_package(place)
        print(next((name for name, content in packages.items() if content == found), f"mixture: {sorted(found)}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
