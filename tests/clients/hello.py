"""A FastMCP server: hello.py [PORT]. With a port it is served over HTTP there, behind OAuth (FastMCP's own, in memory)."""

import sys

from fastmcp import Context, FastMCP
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.settings import ClientRegistrationOptions

port = int(sys.argv[1]) if len(sys.argv) > 1 else None
auth = None
if port:
    url = f"http://127.0.0.1:{port}"
    auth = InMemoryOAuthProvider(base_url=url, client_registration_options=ClientRegistrationOptions(enabled=True))
server = FastMCP("hello", auth=auth)


@server.tool(annotations={"readOnlyHint": True})
def greet(name: str) -> dict[str, str]:
    """Greets somebody."""
    return {"greeting": f"hello {name}"}


@server.tool
async def count(to: int, context: Context) -> str:
    """Counts aloud."""
    for number in range(1, to + 1):
        await context.report_progress(number, to)
    return f"counted to {to}"


@server.resource("hello://motto")
def motto() -> str:
    return "festina lente"


@server.prompt
def welcome(name: str) -> str:
    return f"Welcome {name} in one sentence."


if port:
    server.run(transport="http", host="127.0.0.1", port=port, show_banner=False, log_level="warning")
else:
    server.run(show_banner=False, log_level="warning")
