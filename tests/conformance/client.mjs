// What the conformance suite starts as a client: Antiphon in front of the suite's own server, and a host that uses all of it.
//
//   client.mjs ANTIPHON URL
//
// The host is as simple as one can be: it lists everything, calls, gets and reads all that is listed, and answers questions with
// their defaults. What the suite's server sees is Antiphon's client side.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const [antiphon, url] = process.argv.slice(2);
const version = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? '2025-11-25';
const modern = version >= '2026-07-28';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const capabilities = { elicitation: { form: {} } };

const project = mkdtempSync(join(tmpdir(), 'antiphon-client-'));
writeFileSync(
  join(project, 'antiphon.toml'),
  `[servers.suite]\nurl = "${url}"\n[serve]\nexpose = ["suite.*"]\nprefix = false\n`,
);
const server = spawn(antiphon, ['serve', project, '--trust', '--db', join(project, 'runs.db')], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
const waiting = new Map();
let id = 0;

const send = (message) => server.stdin.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');

function ask(method, params = {}) {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': version,
    'io.modelcontextprotocol/clientInfo': { name: 'suite-host', version: '0' },
    'io.modelcontextprotocol/clientCapabilities': capabilities,
  };
  send({ id: ++id, method, params: modern ? { ...params, _meta } : params });
  return new Promise((resolve) => waiting.set(id, resolve));
}

createInterface({ input: server.stdout }).on('line', (line) => {
  const message = JSON.parse(line);
  if (message.method === undefined) {
    waiting.get(message.id)?.(message);
  } else if (message.id !== undefined) {
    send({ id: message.id, result: answer(message) });
  }
});

// A question is answered with its defaults, and with a yes where there is none.
function answer({ method, params }) {
  if (method !== 'elicitation/create') return {};
  const fields = Object.entries(params.requestedSchema?.properties ?? {});
  return { action: 'accept', content: Object.fromEntries(fields.map(([name, field]) => [name, field.default ?? true])) };
}

// A request with all its rounds. What is refused is told of, and nothing ends by it: the suite judges.
async function through(method, params) {
  for (let round = 0, extra = {}; round < 10; round++) {
    const { result, error } = await ask(method, { ...params, ...extra });
    if (error) console.error(`${method}: ${error.message}`);
    if (result?.resultType !== 'input_required') return result;
    const asked = Object.entries(result.inputRequests ?? {});
    extra = { inputResponses: Object.fromEntries(asked.map(([key, question]) => [key, answer(question)])) };
    if (result.requestState !== undefined) extra.requestState = result.requestState;
  }
}

// Something of the type that is asked for; where a schema is, the one that was listed before.
function sample(schema, tools) {
  switch (schema.type) {
    case 'number':
    case 'integer':
      return 7;
    case 'boolean':
      return true;
    case 'array':
      return [];
    case 'null':
      return null;
    case 'object':
      return tools[0].inputSchema;
    default:
      return 'text';
  }
}

if (!modern) {
  await ask('initialize', { protocolVersion: version, clientInfo: { name: 'suite-host', version: '0' }, capabilities });
  send({ method: 'notifications/initialized' });
}
const tools = (await through('tools/list'))?.tools ?? [];
const listed = tools.map(({ name, inputSchema }) => {
  const fields = Object.entries(inputSchema.properties ?? {});
  return { name, arguments: Object.fromEntries(fields.map(([field, schema]) => [field, sample(schema, tools)])) };
});
for (const call of context.toolCalls ?? listed) await through('tools/call', call);
for (const { name } of (await through('prompts/list'))?.prompts ?? []) await through('prompts/get', { name });
for (const { uri } of (await through('resources/list'))?.resources ?? []) await through('resources/read', { uri });
server.stdin.end();
server.on('exit', () => rmSync(project, { recursive: true, force: true }));
