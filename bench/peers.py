"""Compare elasticpypi with nginx, proxpi and pypiserver: pages, downloads, uploads, cold start, memory, publishing.

All of them run at the same time on this machine and are asked in turns, so that the ratios hold where the machine has
other work too. The results are written to docs/benchmarks.md and docs/benchmarks.svg; with `--quick` or `--only` they
are printed, unless `--output` names a directory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.contest import Run, measure_servers, measure_starts, measure_uploads
from bench.indexes import make_main_index
from bench.publishing import measure_publishing
from bench.report import markdown, write_report
from bench.results import Results
from bench.scenarios import QUICK, Sizes

ROOT = Path(__file__).parent.parent
_PARTS = {
    "load": measure_servers,
    "start": measure_starts,
    "upload": measure_uploads,
    "publish": measure_publishing,
}


def main() -> None:
    """Measure what the command line asks for."""
    arguments = _parse_arguments()
    sizes = QUICK if arguments.quick else Sizes()
    output = arguments.output or (None if arguments.quick or arguments.only else ROOT / "docs")
    results = Results(sizes, load_average=os.getloadavg()[0])
    print(f"the main index of {sizes.projects:,} projects: made on the first run", file=sys.stderr)
    kept = arguments.kept.absolute() / f"{sizes.projects}-{'-'.join(map(str, sizes.pages))}"
    make_main_index(kept, sizes)
    with tempfile.TemporaryDirectory(dir=arguments.kept) as work:
        run = Run(results, main=kept, work=Path(work).absolute(), only=arguments.only or "")
        for part, measure in _PARTS.items():
            if run.wants(part):
                measure(run)
    if output is None:
        print(markdown(results))
    else:
        write_report(results, output)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny indexes and one short round, to see that all works")
    parser.add_argument("--only", metavar="PART", help=f"{', '.join(_PARTS)}, or scenarios whose name contains PART")
    parser.add_argument("--output", type=Path, help="directory to write benchmarks.md and benchmarks.svg to")
    parser.add_argument(
        "--kept", type=Path, default=ROOT / ".cache/bench", help="directory of the index that is kept between runs"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
