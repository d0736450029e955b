"""``wsstream bridge``: `ends` are the ends that its arguments name, `session` carries bytes between two of
them, `listen` takes connections that come in, `run` is the command.
"""
