"""Where does a text stand in a YAML file, what does it mean, and what is wrong with it?"""
