"""An agent as one writes it for any model: a loop over the OpenAI client, whose tools are what it was granted.

[servers.researcher]
command = "python"
args = ["examples/python/researcher.py"]
grants = ["files.*"]
sampling = { consent = "allow", models = ["local"], limits = { rounds = 20 } }
"""

import json

from back import models, tools
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

TURNS = 8
INSTRUCTIONS = "You answer questions from files. Look before you answer; answer in a sentence."

server = MCPServer("researcher", instructions="Answers questions from files.", log_level="WARNING")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def answer(question: str, context: Context) -> str:
    """Answers a question, looking into files where that helps."""
    messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}]
    async with tools(context) as granted, models(context) as model:
        offered = [
            {"type": "function", "function": {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}}
            for tool in (await granted.list_tools()).tools
        ]
        for _ in range(TURNS):
            # Which model answers is Antiphon's affair: the name is a hint.
            completion = await model.chat.completions.create(model="local", messages=messages, tools=offered)
            said = completion.choices[0].message
            if not said.tool_calls:
                return said.content or ""
            messages.append(said.model_dump(exclude_none=True))
            for call in said.tool_calls:
                result = await granted.call_tool(call.function.name, json.loads(call.function.arguments))
                text = "\n".join(block.text for block in result.content if block.type == "text")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
    raise ToolError(f"no answer in {TURNS} turns")


if __name__ == "__main__":
    server.run()
