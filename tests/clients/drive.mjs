// Drives an Antiphon server with the official TypeScript client and prints what it saw, as JSON.
// usage: node drive.mjs MODE (URL | COMMAND [ARG ...])     MODE: auto or legacy
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [mode, target, ...args] = process.argv.slice(2);
const transport = target.startsWith('http')
  ? new StreamableHTTPClientTransport(new URL(target))
  : new StdioClientTransport({ command: target, args, env: process.env });
const client = new Client(
  { name: 'drive', version: '0' },
  { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode } },
);
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { name: 'Ada' } }));
await client.connect(transport);
const seen = (result) => ({ error: Boolean(result.isError), structured: result.structuredContent ?? null });
const report = {
  version: client.getNegotiatedProtocolVersion(),
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  greet: seen(await client.callTool({ name: 'greet', arguments: { who: 'world' } })),
  ask: seen(await client.callTool({ name: 'ask', arguments: {} })),
  broken: seen(await client.callTool({ name: 'broken', arguments: {} })),
};
console.log(JSON.stringify(report));
await client.close();
