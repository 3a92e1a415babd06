"""`make bench`: promheal beside bare Flask, in one run. Timings are ratios; machines are noisy."""
