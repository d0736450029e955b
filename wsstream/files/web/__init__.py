"""Files in a browser: a page that uploads and downloads, and the JavaScript module that it is made of."""

from __future__ import annotations

from wsstream.files.web.pages import WebPage as WebPage
from wsstream.files.web.pages import web_page as web_page
