"""Try a built site: `python -m tests.site out/docs`. Without a browser it fails, unless BROWSER=none leaves that out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import links


def main(site: Path) -> int:
    found = links.check(site)
    wrong = list(found.wrong)
    print(
        f"{found.pages} pages: {found.inside} links within them, {found.outside} links to elsewhere, which are not followed"
    )
    if os.environ.get("BROWSER") == "none":
        print("no page was opened in a browser: BROWSER=none")
    else:
        # this is imported here, so that what needs no browser needs no playwright
        from . import browser

        shots = site.parent / f"{site.name}-screenshots"
        try:
            more, opened = browser.check(site, shots)
        except browser.NoBrowser as error:
            wrong.append(str(error))
        else:
            wrong += more
            print(f"pages were opened {opened} times in a browser; pictures of some are in {shots}")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
