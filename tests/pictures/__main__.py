"""Draw the pictures of the dashboards: `python -m tests.pictures [draw | ask | record]`.

draw    from the results of queries that are committed (dashboards/pictures/*.json): the default
ask     ask all queries of the panels, of a Prometheus with the committed recording (recording.tar.xz), then draw
record  spend 25 minutes on two nodes in the lab for another recording, then ask and draw

`record` needs what the lab needs (tests/lab/README.md), `ask` Debian's prometheus, all three Debian's chromium.
"""

import argparse
import json
from pathlib import Path

from dashboards.build import BOARDS
from tests.pictures import ask, draw, record, server

PICTURES = Path(__file__).parents[2] / "dashboards" / "pictures"
RECORDING = PICTURES / "recording.tar.xz"
SECONDS = 1500
SHOWN = 1380
"""How long a day takes, and how much of its end is on the pictures: the nodes do not begin together."""
CHOSEN = {"container": {"instance": "docker-1", "namespace": "", "pod": "", "container": "worker"}}
"""What is chosen on which dashboard; of the others all."""
TOP = 1102
"""Of Fleet, for the README: what is wrong, what died."""


def main() -> None:
    """Do what is asked for, and what follows from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["draw", "ask", "record"], default="draw")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to record")
    parser.add_argument("--recording", type=Path, default=RECORDING, help="where the recording is")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where results and pictures are")
    options = parser.parse_args()
    if options.what == "record":
        record.record(options.recording, options.seconds)
    if options.what in ("record", "ask"):
        with server.serving(options.recording) as prometheus:
            end = prometheus.latest()
            start = end - min(options.seconds, SHOWN)
            for name, board in BOARDS.items():
                ask.write(options.pictures / f"{name}.json", ask.answers(board, prometheus.ask, start, end, CHOSEN.get(name, {})))
    for name, board in BOARDS.items():
        results = json.loads((options.pictures / f"{name}.json").read_text(encoding="utf-8"))
        draw.draw(board, results, options.pictures / f"{name}.png")
    draw.cut(options.pictures / "fleet.png", TOP, options.pictures / "fleet-top.png")


if __name__ == "__main__":
    main()
