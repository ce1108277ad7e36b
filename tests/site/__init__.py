"""The documentation site, as `make docs` tries it: `python -m tests.site out/docs`, after it is built.

links.py     what pages link to, load and show, read from their HTML
browser.py   every page in a browser, on a phone and on a desk
test_*.py    of `make test`, without a build: every public name is in the reference, and the checks find what they are for
"""
