"""Has an alert healed? What must be asked of Prometheus, and what its answers prove.

    syntax.py     an expression as a tree that can be written out again, in part and restricted
    flow.py       which labels of a selector's series reach the result
    binding.py    which series of this Prometheus is the alert's
    question.py   everything about one moment, in one query
    judgement.py  what the answer proves: cleared, firing, or unknown and why
    ended.py      what became of series that fed the alert and have ended
    verifier.py   the order of the questions

All but verifier.py are functions of values.
"""
