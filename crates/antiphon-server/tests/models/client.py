"""Uses every part of the endpoint once, and prints what came of it."""

import json

from openai import BadRequestError, OpenAI

client = OpenAI()
hello = [{"role": "user", "content": "Hello?"}]

whole = client.chat.completions.create(model="small", messages=hello)
events = client.chat.completions.create(model="small", messages=hello, stream=True)
streamed = "".join(event.choices[0].delta.content or "" for event in events)
weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
called = client.chat.completions.create(model="small", messages=hello, tools=[weather])
try:
    client.chat.completions.create(model="small", messages=hello, n=2)
    refused = None
except BadRequestError as error:
    refused = error.code

report = {
    "models": [model.id for model in client.models.list()],
    "whole": {"text": whole.choices[0].message.content, "tokens": whole.usage.total_tokens},
    "streamed": streamed,
    "calls": [[call.function.name, call.function.arguments] for call in called.choices[0].message.tool_calls],
    "refused": refused,
}
print(json.dumps(report))
