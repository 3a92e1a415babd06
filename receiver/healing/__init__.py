"""How is an alert healed? What is known, what is decided, what is done, and what came of it."""
