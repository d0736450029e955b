"""The command line of each command: its options, and `run`, which imports the rest when it is called."""
