"""An agent with the official SDK alone: a server that is a client, too.

It reads through a tool that it was granted (MCP), and asks a model by `sampling/createMessage` (MCP as well).

[servers.reviewer]
command = "python"
args = ["examples/python/reviewer.py"]
grants = ["files.read_text_file"]
sampling = { consent = "allow", models = ["local"] }
"""

from typing import Annotated

from back import tools
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Resolve, Sample
from mcp.types import CreateMessageResult, SamplingMessage, TextContent, ToolAnnotations

server = MCPServer("reviewer", instructions="Reviews files.", log_level="WARNING")


async def question(path: str, context: Context) -> Sample:
    async with tools(context) as granted:
        read = await granted.call_tool("files__read_text_file", {"path": path})
    text = "\n".join(block.text for block in read.content if block.type == "text")
    asked = SamplingMessage(role="user", content=TextContent(type="text", text=f"Review `{path}`:\n\n{text[:4000]}"))
    return Sample([asked], max_tokens=200, system_prompt="You review texts. Name the one thing to mend first, in a sentence.")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def review(path: str, answer: Annotated[CreateMessageResult, Resolve(question)]) -> dict[str, str]:
    """Says what should be mended first in a file."""
    return {"path": path, "remark": answer.content.text}


if __name__ == "__main__":
    server.run()
