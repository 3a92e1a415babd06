"""Configuration files to values, and the descriptions that are published of them."""
