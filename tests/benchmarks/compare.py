"""The comparison: what each library does about each feature, asked of the installed releases by a small program each.

`python tests/benchmarks/compare.py` prints the tables of docs/comparison.md. `--write` puts them into that page,
`--json` prints the words alone, and `--only stamina` asks that library alone. A library that is not installed is left
out, and its column says so. The column "under trio" needs trio.
"""

import argparse
import json
import logging

from comparison import page


def main() -> None:
    """Ask everyone everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/comparison.md")
    parser.add_argument("--json", action="store_true", help="print the words alone")
    parser.add_argument("--only", action="append", choices=page.NAMES, help="ask this library; can be given again")
    arguments = parser.parse_args()
    logging.disable()  # retries are logged by some
    found = page.tables(arguments.only or ())
    if arguments.write:
        page.write(page.markdown(found))
    else:
        print(json.dumps(page.as_data(found)) if arguments.json else page.markdown(found))  # noqa: T201


if __name__ == "__main__":
    main()
