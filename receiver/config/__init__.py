"""What do the files say? The configuration as values, with every problem in its place."""
