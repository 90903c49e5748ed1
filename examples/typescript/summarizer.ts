// An agent with the official SDK: a server that is a client, too. Node 22.18 and later runs it as it is.
//
// [servers.summarizer]
// command = "node"
// args = ["examples/typescript/summarizer.ts"]
// grants = ["files.*"]
// sampling = { consent = "allow", models = ["local"] }

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { McpServer, type ServerContext } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

// The token, for one of several calls that this process may be serving: TOKEN/KEY.
function authorization(token: string | undefined, context: ServerContext) {
  const key = context.mcpReq._meta?.['antiphon/idempotency-key'];
  return { Authorization: `Bearer ${key ? `${token}/${key}` : token}` };
}

// Calls a tool that the server was granted.
async function call(name: string, args: Record<string, unknown>, context: ServerContext) {
  const client = new Client({ name: 'summarizer', version: '1.0.0' });
  const headers = authorization(process.env.ANTIPHON_MCP_TOKEN, context);
  await client.connect(new StreamableHTTPClientTransport(new URL(process.env.ANTIPHON_MCP_URL!), { requestInit: { headers } }));
  try {
    const result = await client.callTool({ name, arguments: args });
    const text = result.content.map((block) => (block.type === 'text' ? block.text : '')).join('\n');
    if (result.isError) throw new Error(text);
    return text;
  } finally {
    await client.close();
  }
}

// Asks a model that the server may ask. Any OpenAI client does it as well.
async function ask(prompt: string, context: ServerContext) {
  const response = await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...authorization(process.env.OPENAI_API_KEY, context) },
    body: JSON.stringify({ messages: [{ role: 'user', content: prompt }], max_tokens: 200 }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer.choices[0].message.content as string;
}

serveStdio(() => {
  const server = new McpServer({ name: 'summarizer', version: '1.0.0' });
  server.registerTool(
    'summarize',
    {
      description: 'Sums up a file in a sentence',
      inputSchema: z.object({ path: z.string() }),
      annotations: { readOnlyHint: true },
    },
    async ({ path }, context) => {
      const text = await call('files__read_text_file', { path }, context);
      const summary = await ask(`Sum this up in one sentence:\n\n${text.slice(0, 4000)}`, context);
      return { content: [{ type: 'text', text: summary }] };
    },
  );
  return server;
});
