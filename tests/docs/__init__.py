"""What README and the pages of docs/ say, held against the program.

pages.py     the pages, and what stands in them: commands, examples, links
commands.py  how each command of a page is run here
sandbox.py   a folder with the files that the pages speak of
"""
