// Visits a server with the TypeScript client, as visit.py does with Python's: node visit.mjs URL VISITS
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, visits] = process.argv.slice(2);
const client = new Client(
  { name: 'visit', version: '0' },
  { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: 'auto' } },
);
client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { name: 'Ada' } }));
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

async function visit(kind, name, args) {
  switch (kind) {
    case 'tools':
      return (await client.listTools()).tools.map((tool) => tool.name);
    case 'call': {
      const progress = [];
      const onprogress = (heard) => progress.push(heard.progress);
      const result = await client.callTool({ name, arguments: args }, { onprogress });
      const texts = result.content.filter((block) => block.type === 'text').map((block) => block.text);
      return [texts, result.structuredContent ?? null, progress];
    }
    case 'read':
      return (await client.readResource({ uri: name })).contents[0].text;
    case 'prompt':
      return (await client.getPrompt({ name, arguments: args })).messages[0].content.text;
  }
}

const seen = [];
for (const one of JSON.parse(visits)) seen.push(await visit(...one));
console.log(JSON.stringify(seen));
await client.close();
