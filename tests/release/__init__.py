"""What is to be released, built and tried: `make release`, which is `python -m tests.release`.

artifacts.py      build the source distribution and the wheel, and look into them
environments.py   the wheel alone and with every extra, each in an environment of its own
smoke.py          what each of them is asked to do
pythons.py        the wheel under every Python that is named, with and without triton
report.py         what was asked and what came of it, as a table

Nothing is signed and nothing is uploaded.
"""
