"""Visits a server with a Python client and prints what a user sees, as JSON: visit.py (mcp|fastmcp) URL VISITS

VISITS is a JSON list: ["tools"], ["call", NAME, ARGUMENTS], ["read", URI], ["prompt", NAME, ARGUMENTS]. So is what is printed: names;
the texts, the structured content, the progress; a text; a text.
"""

import asyncio
import json
import sys

import fastmcp
import mcp
from mcp.types import ElicitResult

which, url, visits = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def texts(blocks):
    return [block.text for block in blocks if block.type == "text"]


async def visit_mcp(client, kind, name=None, arguments=None):
    progress = []

    async def hear(done, total, message):
        progress.append(done)

    match kind:
        case "tools":
            return [tool.name for tool in (await client.list_tools()).tools]
        case "call":
            result = await client.call_tool(name, arguments, progress_callback=hear)
            return [texts(result.content), result.structured_content, progress]
        case "read":
            return (await client.read_resource(name)).contents[0].text
        case "prompt":
            return (await client.get_prompt(name, arguments)).messages[0].content.text


async def visit_fastmcp(client, kind, name=None, arguments=None):
    progress = []

    async def hear(done, total, message):
        progress.append(done)

    match kind:
        case "tools":
            return [tool.name for tool in await client.list_tools()]
        case "call":
            result = await client.call_tool(name, arguments, progress_handler=hear, raise_on_error=False)
            return [texts(result.content), result.structured_content, progress]
        case "read":
            return (await client.read_resource(name))[0].text
        case "prompt":
            return (await client.get_prompt(name, arguments)).messages[0].content.text


async def answer_mcp(context, params):
    return ElicitResult(action="accept", content={"name": "Ada"})


async def answer_fastmcp(message, kind, params, context):
    return {"name": "Ada"}


async def main():
    if which == "mcp":
        opened, visit = mcp.Client(url, elicitation_callback=answer_mcp), visit_mcp
    else:
        opened, visit = fastmcp.Client(url, elicitation_handler=answer_fastmcp), visit_fastmcp
    async with opened as client:
        print(json.dumps([await visit(client, *one) for one in visits]))


asyncio.run(main())
