"""The way back into Antiphon: what a server was granted to call, and the models that it may ask, as part of a call that it serves."""

import os
from contextlib import asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context
from openai import AsyncOpenAI


def speaking_for(token: str, context: Context) -> str:
    """The token, for one of several calls that this process may be serving: TOKEN/KEY."""
    key = (context.request_context.meta or {}).get("antiphon/idempotency-key")
    return f"{token}/{key}" if key else token


@asynccontextmanager
async def tools(context: Context):
    """An MCP client of what `grants` names: tools, agents, workflows."""
    token = speaking_for(os.environ["ANTIPHON_MCP_TOKEN"], context)
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=600) as http:
        async with Client(streamable_http_client(os.environ["ANTIPHON_MCP_URL"], http_client=http)) as client:
            yield client


def models(context: Context) -> AsyncOpenAI:
    """A client of the models that `sampling` allows; where it is (`OPENAI_BASE_URL`) it knows by itself."""
    return AsyncOpenAI(api_key=speaking_for(os.environ["OPENAI_API_KEY"], context))
