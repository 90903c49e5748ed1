"""Drives an Antiphon server with the official Python client and prints what it saw, as JSON.

usage: drive.py MODE (URL | COMMAND [ARG ...])     MODE: auto, legacy or a protocol version
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult


async def answer(context, params):
    return ElicitResult(action="accept", content={"name": "Ada"})


def seen(result):
    return {"error": bool(result.is_error), "structured": result.structured_content}


async def main(mode, target):
    server = target[0] if target[0].startswith("http") else StdioServerParameters(command=target[0], args=target[1:])
    async with Client(server, mode=mode, elicitation_callback=answer) as client:
        tools = (await client.list_tools()).tools
        report = {
            "version": client.protocol_version,
            "tools": [tool.name for tool in tools],
            "greet": seen(await client.call_tool("greet", {"who": "world"})),
            "ask": seen(await client.call_tool("ask", {})),
            "broken": seen(await client.call_tool("broken", {})),
        }
        print(json.dumps(report))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
