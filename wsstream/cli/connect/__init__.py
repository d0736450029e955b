"""``wsstream connect``: `session` is the command, `sending` and `writing` are the two directions in a pipe,
`console` is the conversation on a terminal.
"""
