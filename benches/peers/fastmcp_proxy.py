"""A proxy of an MCP server, as FastMCP makes it: `fastmcp_proxy.py URL [shared]`.

With `shared`, all callers' calls go over one connection; without, as by default, each makes its own. It says on standard error where it
listens, and ends when its standard input does.
"""

import asyncio
import socket
import sys

from fastmcp import Client
from fastmcp.server import create_proxy


async def serve(target) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = create_proxy(target, name="proxy")
    server = asyncio.create_task(
        proxy.run_http_async(host="127.0.0.1", port=port, show_banner=False, log_level="error")
    )
    while not server.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            print(f"http://127.0.0.1:{port}/mcp", file=sys.stderr, flush=True)
            break
    await asyncio.wait([server, asyncio.create_task(asyncio.to_thread(sys.stdin.read))], return_when="FIRST_COMPLETED")
    server.cancel()


async def main(url: str, shared: bool) -> None:
    if shared:
        async with Client(url) as client:
            await serve(client)
    else:
        await serve(url)


asyncio.run(main(sys.argv[1], "shared" in sys.argv[2:]))
