"""What is due: policy without a queue, a network or SQL. It imports nothing of `workers`.

fields        what a value in a file or an event may look like
rule          the words a rule is written in
rules/        one file a kind: invitation, statement, payment …
calendar      working days, wall-clock send times, quiet hours
invoice_list  the list that goes along with a payment, and whether it adds up
planner       record + rule + contacts + now -> what is due, what is skipped and why
clock         ticks
"""

from schedules.rules import load_rules

__all__ = ["load_rules"]
