"""Has an alert healed? What must be asked of Prometheus, and what its answers prove.

    tree.py, syntax.py       an expression as a tree that can be written out again, in part
    placement.py, flow.py    which labels of a selector's series reach the result
    binding.py, bind.py      which series of this Prometheus is the alert's
    restricted.py            an expression, as far as it can have fed one result
    question.py, parts.py    everything about one moment, in one query
    value.py, condition.py   what is known of a part, and whether it is a condition
    judge.py                 what the answer proves: cleared, firing, or unknown and why
    lost.py, lost_questions.py, ended.py   what became of series that fed the alert and have ended
    verifier.py, source.py   the order of the questions, and who is asked
    judgement.py             the answer, for a decision and for a proof
    scraping.py              whether an expression means a target that is down

All but bind.py and verifier.py are functions of values.
"""
