// A server on version 1 of the TypeScript SDK: it speaks 2025-11-25 and older.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { z } from 'zod';

const server = new McpServer({ name: 'hello-v1', version: '1.0.0' });
server.registerTool(
  'greet',
  {
    description: 'Greets somebody.',
    inputSchema: { name: z.string() },
    outputSchema: { greeting: z.string() },
    annotations: { readOnlyHint: true },
  },
  async ({ name }) => {
    const structuredContent = { greeting: `hello ${name}` };
    return { structuredContent, content: [{ type: 'text', text: JSON.stringify(structuredContent) }] };
  },
);
server.registerTool('count', { description: 'Counts aloud.', inputSchema: { to: z.number() } }, async ({ to }, extra) => {
  const progressToken = extra._meta?.progressToken;
  for (let progress = 1; progressToken !== undefined && progress <= to; progress++) {
    await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress, total: to } });
  }
  return { content: [{ type: 'text', text: `counted to ${to}` }] };
});
server.registerTool('ask', { description: 'Asks who is there.' }, async () => {
  const requestedSchema = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
  const answer = await server.server.elicitInput({ message: 'Who are you?', requestedSchema });
  return { content: [{ type: 'text', text: `${answer.action}: ${answer.content?.name}` }] };
});
server.registerResource('motto', 'hello://motto', {}, async (uri) => ({
  contents: [{ uri: uri.href, text: 'festina lente' }],
}));
server.registerPrompt('welcome', { argsSchema: { name: z.string() } }, ({ name }) => ({
  messages: [{ role: 'user', content: { type: 'text', text: `Welcome ${name} in one sentence.` } }],
}));
await server.connect(new StdioServerTransport());
