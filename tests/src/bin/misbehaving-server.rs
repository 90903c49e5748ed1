//! An MCP server that does what no server should, one thing at a time. It writes its lines by hand: a library would not
//! let it. Tools: `look` (read-only) and `act` (which says nothing about itself). It ends when its stdin does.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

/// How many megabytes make a huge result.
const HUGE: usize = 50;
/// How many tools are many, and how many of them come on a page.
const MANY: usize = 5_000;
const PAGE: usize = 25;

#[derive(Parser)]
struct Args {
    mode: Mode,
    /// For `slow-start`: how long the first answer takes.
    #[arg(long, default_value_t = 2_000)]
    delay_ms: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// Ends before it has said anything but a word on stderr.
    ExitAtStart,
    /// Never answers anything.
    HangAtStart,
    /// Thinks before its first answer, then behaves.
    SlowStart,
    /// Ends when a tool is called.
    ExitOnCall,
    /// Never answers calls.
    HangOnCall,
    /// Behaves, but prints other things on stdout too.
    GarbageOnStdout,
    /// Answers calls with half a line of JSON.
    InvalidJsonResult,
    /// Answers calls with JSON that is no tool result.
    WrongShape,
    /// Answers calls with 50 MB.
    HugeResult,
    /// Never answers `tools/list`.
    HangOnList,
    /// Lists 5,000 tools more, in pages of 25.
    ManyTools,
    /// Lists tools without an end.
    EndlessTools,
    /// Has one tool more after each call, and says so.
    Grows,
    /// Repeats its environment's `TOKEN` wherever it can: on stderr, as noise, in progress, in results and in errors.
    Blabs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mode == Mode::ExitAtStart {
        eprintln!("misbehaving-server: the config file is missing");
        return ExitCode::from(3);
    }
    match serve(&args) {
        Ok(code) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(args: &Args) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut started = false;
    let mut grown = 0;
    for line in io::stdin().lock().lines() {
        let Ok(request) = serde_json::from_str::<Value>(&line?) else { continue };
        // Notifications want no answer.
        let (Some(method), false) = (request["method"].as_str(), request["id"].is_null()) else { continue };
        if args.mode == Mode::HangAtStart {
            continue;
        }
        if args.mode == Mode::SlowStart && !std::mem::replace(&mut started, true) {
            std::thread::sleep(Duration::from_millis(args.delay_ms));
        }
        if args.mode == Mode::GarbageOnStdout {
            writeln!(out, "Listening for requests…\n{{\"level\":\"info\"}}\n\u{1b}[32m{method}\u{1b}[0m [1, 2")?;
        }
        let id = &request["id"];
        match (method, args.mode) {
            ("tools/call", Mode::ExitOnCall) => return Ok(ExitCode::from(4)),
            ("tools/call", Mode::HangOnCall) => {}
            ("tools/call", Mode::InvalidJsonResult) => {
                writeln!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"te"#)?;
            }
            ("tools/call", Mode::WrongShape) => answer(&mut out, id, &json!([1, 2, 3]))?,
            ("tools/call", Mode::HugeResult) => {
                write!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#)?;
                let megabyte = "x".repeat(1 << 20);
                for _ in 0..HUGE {
                    out.write_all(megabyte.as_bytes())?;
                }
                writeln!(out, r#""}}]}}}}"#)?;
            }
            ("tools/call", Mode::Blabs) => blab(&mut out, &request)?,
            ("tools/call", Mode::Grows) => {
                grown += 1;
                let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
                writeln!(out, "{changed}")?;
                answer(&mut out, id, &text("grown"))?;
            }
            ("tools/call", _) => answer(&mut out, id, &text("done"))?,
            ("tools/list", Mode::HangOnList) => {}
            ("tools/list", Mode::ManyTools | Mode::EndlessTools) => {
                let most = if args.mode == Mode::ManyTools { MANY } else { usize::MAX };
                answer(&mut out, id, &page(&request["params"]["cursor"], most))?;
            }
            ("tools/list", _) => answer(&mut out, id, &tools(grown))?,
            ("initialize", _) => answer(&mut out, id, &hello(args.mode))?,
            _ => {
                let error = json!({ "code": -32601, "message": format!("no such method: {method}") });
                writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "error": error }))?;
            }
        }
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn blab(out: &mut impl Write, call: &Value) -> io::Result<()> {
    let token = std::env::var("TOKEN").unwrap_or_default();
    eprintln!("my token is {token}");
    writeln!(out, "DEBUG token={token}")?;
    let of = &call["params"]["_meta"]["progressToken"];
    let progress = json!({ "progressToken": of, "progress": 1, "message": format!("signing in with {token}") });
    writeln!(out, "{}", json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": progress }))?;
    let id = &call["id"];
    if call["params"]["name"] == "look" {
        let content = json!([{ "type": "text", "text": format!("I am {token}") }]);
        return answer(out, id, &json!({ "content": content, "structuredContent": { "env": { "TOKEN": token } } }));
    }
    let error = json!({ "code": -32000, "message": format!("{token} is no good"), "data": token });
    writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

fn answer(out: &mut impl Write, id: &Value, result: &Value) -> io::Result<()> {
    writeln!(out, "{}", json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// It only speaks 2025-11-25.
fn hello(mode: Mode) -> Value {
    let tools = if mode == Mode::Grows { json!({ "listChanged": true }) } else { json!({}) };
    json!({
        "protocolVersion": "2025-11-25", "capabilities": { "tools": tools },
        "serverInfo": { "name": "misbehaving-server", "version": "0" },
    })
}

fn tools(grown: usize) -> Value {
    let schema = json!({ "type": "object" });
    let mut tools = vec![
        json!({ "name": "look", "description": "Looks", "inputSchema": schema, "annotations": { "readOnlyHint": true } }),
        json!({ "name": "act", "description": "Acts", "inputSchema": schema }),
    ];
    tools.extend((1..=grown).map(tool));
    json!({ "tools": tools })
}

/// The first page has the usual tools, too.
fn page(cursor: &Value, most: usize) -> Value {
    let from = cursor.as_str().and_then(|from| from.parse().ok()).unwrap_or(0);
    let to = most.min(from + PAGE);
    let mut page = if from == 0 { tools(0) } else { json!({ "tools": [] }) };
    if let Some(tools) = page["tools"].as_array_mut() {
        tools.extend((from + 1..=to).map(tool));
    }
    if to < most {
        page["nextCursor"] = to.to_string().into();
    }
    page
}

fn tool(number: usize) -> Value {
    json!({ "name": format!("tool_{number}"), "description": "One of many", "inputSchema": { "type": "object" } })
}

fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}
