"""Files over a WebSocket: resumable, verified, in bounded memory. The subprotocol ``wsstream.file.v1``."""

from __future__ import annotations

from wsstream.files.client import delete as delete
from wsstream.files.client import download as download
from wsstream.files.client import download_into as download_into
from wsstream.files.client import upload as upload
from wsstream.files.errors import TransferError as TransferError
from wsstream.files.progress import Progress as Progress
from wsstream.files.progress import Totals as Totals
from wsstream.files.protocol.messages import SUBPROTOCOL as SUBPROTOCOL
from wsstream.files.result import TransferResult as TransferResult
from wsstream.files.server import Allow as Allow
from wsstream.files.server import Deny as Deny
from wsstream.files.server import serve_files as serve_files
from wsstream.files.storage.locker import FileLocker as FileLocker
from wsstream.files.storage.locker import Locker as Locker
from wsstream.files.storage.safe_root import SafeRoot as SafeRoot
from wsstream.files.transfer import receive_file as receive_file
from wsstream.files.transfer import send_file as send_file
