"""YAML with places: what a file says, where it says it, and what is wrong with it."""
