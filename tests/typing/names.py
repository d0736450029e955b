"""The public names are known, each with its type, and others are refused."""

import wsstream
from wsstream import CloseCode, connect, nothing  # error

code: int = CloseCode.NORMAL
text: str = CloseCode.NORMAL  # error
used = (connect, nothing, wsstream.serve, wsstream.__version__)
typo = wsstream.connekt  # error
private = wsstream.TypeVar  # error
