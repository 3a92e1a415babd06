"""Who learns of it? Metrics, what needs a person, messages to people, and the healing log."""
