// The suite asks for tools and prompts by names of its own; behind a prefix they are called otherwise. This stands between, and
// spells them: `node prefix.mjs URL PREFIX` prints where it listens.
import http from 'node:http';

const [target, prefix] = [new URL(process.argv[2]), process.argv[3]];
const named = new Set(['tools/call', 'prompts/get']);

function spelled(text) {
    let message;
    try {
        message = JSON.parse(text);
    } catch {
        return text;
    }
    const params = message?.params;
    if (named.has(message?.method) && typeof params?.name === 'string') params.name = prefix + params.name;
    if (params?.ref?.type === 'ref/prompt') params.ref.name = prefix + params.ref.name;
    return JSON.stringify(message);
}

const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = spelled(Buffer.concat(chunks).toString());
    const headers = { ...request.headers };
    delete headers['content-length'];
    if (body) headers['content-length'] = Buffer.byteLength(body);
    if (named.has(headers['mcp-method']) && headers['mcp-name']) headers['mcp-name'] = prefix + headers['mcp-name'];
    const onward = http.request(
        { hostname: target.hostname, port: target.port, path: target.pathname, method: request.method, headers },
        (answer) => {
            const kept = { ...answer.headers };
            delete kept['content-length'];
            response.writeHead(answer.statusCode, kept);
            response.flushHeaders();
            answer.setEncoding('utf8');
            answer.on('data', (text) => response.write(text.replaceAll(`"name":"${prefix}`, '"name":"')));
            answer.on('end', () => response.end());
            answer.on('error', () => response.destroy());
        },
    );
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    onward.end(body);
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}${target.pathname}`));
