"""The notebooks of an afternoon's workshop: texts, NN_name.md, and the .ipynb that `notebooks.write` makes."""
