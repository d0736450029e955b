"""What several tests share. Importable as ``kit``: pytest puts this folder's parent on the path.

===================  ==========================================================================
``backends``         which event loops and which clock a test runs on: its markers, ``--loop``
``browsers``         Chromium and Firefox without a window, driven over a WebSocket
``codec``            the two versions of the codec's hot paths: pure and compiled
``compliance_rows``  tables of the RFCs as rows of a peer's frames
``deflate``          permessage-deflate: options of two ends, and what they agree on
``effort``           what a plain run leaves out, and how many examples a property test tries
``endpoints``        handlers and clients that do the obvious: echo, check the echo, fail to connect
``handshake``        an opening handshake as lists of header fields
``hostile``          exceptions that are hard to judge
``ids``              names of parameters
``installation``     which copy of wsstream and which codec are tested
``interop``          other implementations, and messages that both ends can make
``leaks``            tasks and sockets that are left
``limit``            a limit for the time of each test
``peers``            servers on loopback that are not ours
``processes``        programs in processes of their own
``programs``         installed programs that a test needs
``redis_server``     Redis on a Unix socket, which may be restarted and lose what it has
``tls``              an authority, and the contexts of both ends
``versions``         what depends on the version of anyio
``virtual_uvloop``   virtual time on uvloop
``waiting``          until something is true
``zlib_peer``        a peer that compresses without the library
===================  ==========================================================================

Fixtures are in ``tests/conftest.py``.
"""
