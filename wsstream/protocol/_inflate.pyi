from wsstream.protocol.inflate import PythonInflater

class Inflater(PythonInflater): ...

ZLIB_VERSION: str
