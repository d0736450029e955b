"""One open connection without I/O: the rules of RFC 6455, its clock, and permessage-deflate."""
