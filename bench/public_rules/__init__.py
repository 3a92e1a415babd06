"""Does the verification tell the truth about rules that others wrote?

    reading ──► tree ──► states ──► series ──► server     rules, made to fire and to be well
                                                  │
    histories, trees ──► asked ──► judging ◄── truth      what came after the action, and the word

`python -m bench.public_rules DIR`, or `make public-rules DIR=…`.
"""
