"""Write the kernels yourself, on a laptop without a GPU: twelve lessons, and what checks them.

README.md       where a student starts; INSTRUCTOR.md is for who teaches
lessons/        a folder a lesson: the page, the solution, the skeleton made of it, what is asked, wrong solutions
lesson.py       what a lesson consists of: steps, cases, mistakes that are known by name
skeleton.py     the student's file, made of a solution by its marks
engine.py       a student's file run on the cases of a lesson, and what is found
source.py       the text of a student's file: how it is read, and what of it is not filled in
compare.py      a result beside the specification's
faults.py       time that is over, and exceptions of a student's code, as what is found
memory.py       memory that nobody has written to
report.py       what was found, as data
words.py        what was found, in words; table.py draws got beside expected
machine.py      which of the two runs kernels here:
semantics.py      Triton's own compiler (compiler.py), and ttsem for what it compiles to
places.py         the lines of a student's file that its operations come from
standin/          Triton's language over NumPy, where there is no Triton
trace.py        what the programs of a launch touched, and how many bytes that are
trial.py        kernels of a student's file, tried out in a notebook
scene.py        what a picture shows, as data; draw.py draws it
look.py         what a GPU's compiler makes of a student's kernels
virtual.py      problems of more than 2^31 elements, without their memory
mirrors.py      convolutions by the kernels of torchops that lessons mirror, for tests
server.py       a warm process that forks for every check, and outlives whatever a student's file does
progress.py     the student's folder and what is done in it
"""
