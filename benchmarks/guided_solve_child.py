"""The minimax choice in a process of its own, whose memory is watched."""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from jaxprotect.runs.scratch import scratch_in
from jaxprotect.selection.top_gains import minimax_choice, removed


def anonymous() -> int:
    """Bytes of this process that are no pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no RssAnon")


class Watch(threading.Thread):
    """The most memory seen, twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.most = max(self.most, anonymous())
            time.sleep(0.05)


def main(languages: int, weights: int, leaves: int) -> None:
    """Gains that languages share in part, as they do in a multilingual model."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        allocate = scratch_in(Path(folder), large=0)
        gains = {f"leaf {i}": allocate((languages, weights // leaves)) for i in range(leaves)}
        for leaf in gains.values():
            shared = generator.standard_normal(leaf.shape[1], np.float32)
            for row in range(languages):
                own = generator.standard_normal(leaf.shape[1], np.float32)
                leaf[row] = np.exp(2 * shared + own)
        totals = np.sum([leaf.sum(axis=1, dtype=np.float64) for leaf in gains.values()], axis=0)
        harm = generator.uniform(0.5, 2.0, languages)
        for leaf in gains.values():
            leaf *= (harm / totals).astype(np.float32)[:, None]
        begin = time.perf_counter()
        for leaf in gains.values():
            leaf.max()
        read = time.perf_counter() - begin
        before = anonymous()
        watch = Watch()
        watch.start()
        begin = time.perf_counter()
        solved, chosen = minimax_choice(gains, harm, count=weights // 100)
        seconds = time.perf_counter() - begin
        assert sum(int(flags.sum()) for flags in chosen.values()) == weights // 100
        worst = float((harm - removed(gains, chosen)).max())
        np.testing.assert_allclose(worst, solved.worst, rtol=1e-6)
        print(
            json.dumps(
                {
                    "languages": languages,
                    "weights": weights,
                    "passes": solved.passes,
                    "gap": solved.worst / solved.bound - 1,
                    "seconds": seconds,
                    "read": read,
                    "memory": watch.most - before,
                    "bytes": sum(leaf.nbytes for leaf in gains.values()),
                }
            )
        )


if __name__ == "__main__":
    main(25, *((120_000, 2) if "--small" in sys.argv else (124_000_000, 31)))
