"""An MCP server that asks the model of whoever calls it: thinker.py LOG [legacy].

As the official SDK does it: pushed requests to a client of 2025-11-25, `input_required` to one of 2026-07-28. With `legacy` it
knows no later revision than 2025-11-25.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.resolve import Resolve, Sample
from mcp.types import CreateMessageResult, SamplingMessage, TextContent, Tool
from mcp.types import CreateMessageResultWithTools, ToolResultContent

LOG = Path(sys.argv[1])
server = MCPServer("thinker", log_level="WARNING")


def user(content):
    return SamplingMessage(role="user", content=content)


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def log(**event) -> None:
    with LOG.open("a") as file:
        file.write(json.dumps(event) + "\n")


def question(words: str, most: int) -> Sample:
    return Sample([user(text(words))], max_tokens=most, system_prompt="Be brief.")


@server.tool()
def think(words: str, answer: Annotated[CreateMessageResult, Resolve(question)], most: int = 50) -> dict[str, str]:
    """Asks the caller's model once."""
    log(tool="think", words=words)
    return {"text": answer.content.text, "model": answer.model, "stop": str(answer.stop_reason)}


COUNT = Tool(name="count", description="Counts letters", input_schema={
    "type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"],
})


def first(words: str) -> Sample:
    return Sample([user(text(words))], max_tokens=50, tools=[COUNT])


def second(words: str, said: Annotated[CreateMessageResultWithTools, Resolve(first)]) -> Sample:
    calls = said.content if isinstance(said.content, list) else [said.content]
    results = [
        ToolResultContent(type="tool_result", tool_use_id=call.id, content=[text(str(len(call.input["word"])))])
        for call in calls
        if call.type == "tool_use"
    ]
    messages = [user(text(words)), SamplingMessage(role="assistant", content=said.content), user(results)]
    return Sample(messages, max_tokens=50, tools=[COUNT])


@server.tool()
def reckon(words: str, said: Annotated[CreateMessageResultWithTools, Resolve(second)]) -> str:
    """Asks the caller's model, which may call a tool of this server's own."""
    content = said.content if isinstance(said.content, list) else [said.content]
    return " ".join(block.text for block in content if block.type == "text")


def hide_modern() -> None:
    """Puts a reader before the SDK's that knows no `server/discover`."""
    theirs, (read, write) = os.fdopen(os.dup(0)), os.pipe()
    os.dup2(read, 0)

    def pump() -> None:
        with os.fdopen(write, "w") as sdk:
            for line in theirs:
                message = json.loads(line)
                if message.get("method") == "server/discover":
                    error = {"code": -32601, "message": "no such method"}
                    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
                else:
                    sdk.write(line)
                    sdk.flush()

    threading.Thread(target=pump, daemon=True).start()


if __name__ == "__main__":
    if "legacy" in sys.argv:
        hide_modern()
    server.run()
