// A server on version 2 of the TypeScript SDK: it speaks 2026-07-28, and older.
import { McpServer, acceptedContent, inputRequired } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

serveStdio(() => {
  const server = new McpServer({ name: 'hello-v2', version: '1.0.0' });
  server.registerTool(
    'greet',
    {
      description: 'Greets somebody.',
      inputSchema: z.object({ name: z.string() }),
      outputSchema: z.object({ greeting: z.string() }),
      annotations: { readOnlyHint: true },
    },
    async ({ name }) => {
      const structuredContent = { greeting: `hello ${name}` };
      return { structuredContent, content: [{ type: 'text', text: JSON.stringify(structuredContent) }] };
    },
  );
  server.registerTool(
    'count',
    { description: 'Counts aloud.', inputSchema: z.object({ to: z.number() }) },
    async ({ to }, context) => {
      const progressToken = context.mcpReq._meta?.progressToken;
      for (let progress = 1; progressToken !== undefined && progress <= to; progress++) {
        await context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: to } });
      }
      return { content: [{ type: 'text', text: `counted to ${to}` }] };
    },
  );
  server.registerTool('ask', { description: 'Asks who is there.', inputSchema: z.object({}) }, async (_, context) => {
    const answer = acceptedContent(context.mcpReq.inputResponses, 'who');
    if (answer) return { content: [{ type: 'text', text: `accept: ${answer.name}` }] };
    const requestedSchema = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
    return inputRequired({ inputRequests: { who: inputRequired.elicit({ message: 'Who are you?', requestedSchema }) } });
  });
  server.registerResource('motto', 'hello://motto', {}, async (uri) => ({
    contents: [{ uri: uri.href, text: 'festina lente' }],
  }));
  server.registerPrompt('welcome', { argsSchema: z.object({ name: z.string() }) }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Welcome ${name} in one sentence.` } }],
  }));
  return server;
});
