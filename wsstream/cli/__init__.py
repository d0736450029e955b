"""The command line: ``wsstream``, also ``python -m wsstream``."""
