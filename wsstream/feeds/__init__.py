"""Feeds: one publisher, many sockets, slow ones among them. The subprotocol ``wsstream.feed.v1``."""

from __future__ import annotations

from wsstream.feeds.client import Item as Item
from wsstream.feeds.client import follow as follow
from wsstream.feeds.engine import Engine as Engine
from wsstream.feeds.engine import Entry as Entry
from wsstream.feeds.engine import Page as Page
from wsstream.feeds.feed import Feed as Feed
from wsstream.feeds.feed import FeedStatistics as FeedStatistics
from wsstream.feeds.follower import Followed as Followed
from wsstream.feeds.memory import MemoryEngine as MemoryEngine
from wsstream.feeds.policies import DropOldest as DropOldest
from wsstream.feeds.policies import Evict as Evict
from wsstream.feeds.policies import Latest as Latest
from wsstream.feeds.policies import Wait as Wait
from wsstream.feeds.position import Position as Position
from wsstream.feeds.protocol import SUBPROTOCOL as SUBPROTOCOL
from wsstream.feeds.redis import RedisEngine as RedisEngine
