"""`make bench`: promheal measured beside others, in one run. Ratios count; machines are noisy."""
