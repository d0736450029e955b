"""The Model Context Protocol over a WebSocket: `typed` is the pair of streams that its SDK takes.

Usage: python mcp_session.py [asyncio|trio]      (pip install mcp)
"""

import sys

import anyio
import mcp_types as types
from mcp import ClientSession
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage

from wsstream import TypedStream, WebSocketStream, connect, serve, typed


def session_stream(ws: WebSocketStream) -> TypedStream[SessionMessage | Exception, SessionMessage]:
    def encode(item: SessionMessage) -> str:
        return item.message.model_dump_json(by_alias=True, exclude_none=True)

    return typed(ws, lambda data: SessionMessage(types.jsonrpc_message_adapter.validate_json(data)), encode)


async def list_tools(context: object, params: object) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[types.Tool(name="add", input_schema={"type": "object"})])


async def handler(ws: WebSocketStream) -> None:
    server, stream = Server("adder", on_list_tools=list_tools), session_stream(ws)
    await server.run(stream, stream, server.create_initialization_options())


async def main() -> None:
    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        stream = session_stream(ws)
        async with ClientSession(stream, stream) as session:
            server_info = (await session.initialize()).server_info
            print(server_info.name, [tool.name for tool in (await session.list_tools()).tools])


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
