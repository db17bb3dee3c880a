"""The fault suite: real processes and servers are broken on purpose, and every message is counted.

    python -m tests.faults.suite --only F1a,F6 --seed 7 --short

world.py       real servers and processes of the product, and how to break them
population.py  who is to be written to, decided by an oracle of its own before anything runs
sink.py        the far side: an SMTP server and an SMS gateway that log what they take
checker.py     compares what was expected, what the database says and what the far side saw
fault.py       what a fault is, and one trial of it
faults/        the faults, one file each; a new file is a new fault
mutants.py     copies of the product with a defect, which the suite has to notice
page.py        the results as docs/reliability.md
"""
