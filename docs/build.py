"Build the documentation site in docs/_build/html: `make docs`."
import shutil
import sys
import time
from pathlib import Path

from links import check
from sphinx.cmd.build import build_main
from stage import stage

DOCS = Path(__file__).resolve().parent


def build(target: Path) -> int:  # exit code
    "Stage the sources, build the pages, check their links."
    start = time.perf_counter()
    shutil.rmtree(target, ignore_errors=True)
    try: stage(DOCS.parent, target / "source")
    except ValueError as e:
        print(e, file=sys.stderr)
        return 1
    code = build_main(["-q", "-W", "--keep-going", "-c", str(DOCS), "-d", str(target / "doctrees"),
                       str(target / "source"), str(target / "html")])
    wrong = check(target / "html")
    for line in wrong: print(line, file=sys.stderr)
    if code or wrong: return 1
    print(f"{target / 'html' / 'index.html'}: {len(list((target / 'html').rglob('*.html')))} pages "
          f"in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DOCS / "_build"))
