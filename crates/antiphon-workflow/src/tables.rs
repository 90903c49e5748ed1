//! The tables that workflow files and `antiphon.toml` share: `[servers]`, `[models]`, `[limits]`, `[task]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use antiphon_kernel::LimitMode;

use crate::agent;
use crate::code::{BAD_NAME, BAD_VALUE, BAD_VARIABLE, MISSING_KEY, OPEN_SECRET, WRONG_VERB};
use crate::diagnostic::{Diagnostic, Place};
use crate::env::{self, Piece};
use crate::oauth;
use crate::parsed::{Defined, LimitsPart, Tables, TaskPart};
use crate::project::{Consent, ModelDef, Price, SamplingGrant, ServerDef, Session, TaskMode, Transport};
use crate::read::{Item, Table};
use crate::secrets::sounds_secret;

/// Models that are not declared.
pub(crate) const MODEL_WORDS: &[&str] = &["caller", "auto"];

/// Reads the tables that both kinds of file have.
pub(crate) fn read(root: &Table<'_>) -> Tables {
    let mut grants = BTreeMap::new();
    let servers = named(root.take("servers"), server).into_iter().map(|(name, Defined { place, def })| {
        let def = def.map(|(def, granted)| {
            grants.insert(name.clone(), granted);
            def
        });
        (name, Defined { place, def })
    });
    Tables {
        servers: servers.collect(),
        grants,
        models: named(root.take("models"), model),
        agents: named(root.take("agents"), agent::read),
        limits: root.take("limits").and_then(|item| limits(&item)).unwrap_or_default(),
        task: root.take("task").and_then(|item| task(&item)).unwrap_or_default(),
        unreadable: None,
    }
}

/// Whether a name can stand before the `.` of `SERVER.TOOL`, and be a tool's name.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn named<T>(item: Option<Item<'_>>, read: impl Fn(&Item<'_>, &Table<'_>) -> Option<T>) -> BTreeMap<String, Defined<T>> {
    let table = item.as_ref().and_then(Item::table);
    let mut all = BTreeMap::new();
    for item in table.iter().flat_map(Table::items) {
        if !is_name(item.key) || MODEL_WORDS.contains(&item.key) {
            item.cx
                .report(Diagnostic::new(BAD_NAME, &item.key_place(), format!("`{}` can't be a name", item.key)).help(
                    "names are made of letters, digits, `_` and `-`; `caller` and `auto` have a meaning already",
                ));
        }
        let Some(table) = item.table() else { continue };
        let def = read(&item, &table);
        table.finish();
        all.insert(item.key.to_owned(), Defined { place: item.key_place(), def });
    }
    all
}

/// A server, and what it is granted to call.
fn server(item: &Item<'_>, table: &Table<'_>) -> Option<(ServerDef, Vec<(String, Place)>)> {
    let grants = table.take("grants");
    let transport = transport(item, table, grants.as_ref());
    let grants = grants.map_or(Some(Vec::new()), |item| {
        let named = item.strings("write `grants = [\"files.read_*\", \"critic\"]`")?;
        Some(named.into_iter().map(|(name, place)| (name.to_owned(), place)).collect())
    });
    let allow = table.take("allow").and_then(|item| item.strings("write `allow = [\"search\", \"fetch_*\"]`"));
    let read_only = table.take("read_only").and_then(|item| item.boolean()).unwrap_or_default();
    let timeout = table.take("timeout").and_then(|item| item.duration()).unwrap_or(60_000);
    let sampling = table.take("sampling").and_then(|item| sampling(&item));
    let elicitation = table.take("elicitation").and_then(|item| elicitation(&item)).unwrap_or_default();
    let session = table.take("session");
    let session = session.and_then(|item| item.word(&[("shared", Session::Shared), ("per_run", Session::PerRun)]));
    let def = ServerDef {
        path: item.cx.text.path.clone(),
        transport: transport?,
        allow: allow.map(|patterns| patterns.into_iter().map(|(pattern, _)| pattern.to_owned()).collect()),
        read_only,
        timeout: Duration::from_millis(timeout),
        session,
        sampling,
        elicitation,
    };
    Some((def, grants?))
}

/// `command` or `url`, and what goes with it.
fn transport(item: &Item<'_>, table: &Table<'_>, grants: Option<&Item<'_>>) -> Option<Transport> {
    let (command, url) = (table.take("command"), table.take("url"));
    let of_command = [table.take("args"), table.take("env"), table.take("cwd")];
    let (headers, auth) = (table.take("headers"), table.take("auth"));
    let foreign = |items: &[Option<&Item<'_>>], why: &str| {
        for item in items.iter().flatten() {
            let message = format!("`{}` goes with {why}", item.key);
            let help = format!("remove it, or give the server {why}");
            item.cx.report(Diagnostic::new(WRONG_VERB, &item.key_place(), message).help(help));
        }
    };
    match (command, url) {
        (Some(command), None) => {
            foreign(&[headers.as_ref(), auth.as_ref()], "a `url`");
            let [args, environment, cwd] = of_command;
            let help = "write `args = [\"-y\", \"some-server\"]`";
            let args = args.map_or(Some(Vec::new()), |args| args.list(help)?.iter().map(open).collect());
            let env = secrets(environment);
            let cwd = cwd.map(|cwd| open(&cwd));
            let (command, cwd) = (program(&command), cwd.map_or(Some(None), |cwd| cwd.map(Some)));
            Some(Transport::Stdio { command: command?, args: args?, env: env?, cwd: cwd? })
        }
        (None, Some(url)) => {
            let [args, env, cwd] = &of_command;
            foreign(&[args.as_ref(), env.as_ref(), cwd.as_ref(), grants], "a `command`");
            let (url, headers) = (address(&url), secrets(headers));
            let auth = auth.map_or(Some(None), |auth| oauth::read(&auth, headers.as_ref()).map(Some));
            Some(Transport::Http { url: url?, headers: headers?, auth: auth? })
        }
        (None, None) => {
            let message = format!("the server `{}` has neither a `command` nor a `url`", item.key);
            let diagnostic = Diagnostic::new(MISSING_KEY, &item.key_place(), message);
            item.cx.report(diagnostic.help("add `command = \"npx\"` and `args`, or `url = \"https://…/mcp\"`"));
            None
        }
        (Some(_), Some(url)) => {
            let message = "a server has either a `command` or a `url`";
            item.cx.report(Diagnostic::new(WRONG_VERB, &url.key_place(), message).help("remove one of the two"));
            None
        }
    }
}

fn elicitation(item: &Item<'_>) -> Option<Consent> {
    let table = item.table()?;
    let consent = table.require("consent").and_then(|item| consent(&item));
    table.finish();
    consent
}

fn consent(item: &Item<'_>) -> Option<Consent> {
    item.word(&[("allow", Consent::Allow), ("ask", Consent::Ask), ("deny", Consent::Deny)])
}

fn sampling(item: &Item<'_>) -> Option<SamplingGrant> {
    let table = item.table()?;
    let consent = table.require("consent").and_then(|item| consent(&item));
    let models = table.take("models").map(|item| item.strings("write `models = [\"local\"]`").unwrap_or_default());
    let models = models.map(|models| models.into_iter().map(|(name, _)| name.to_owned()).collect());
    let limits = table.take("limits").and_then(|item| item.table());
    let limit = |key| limits.as_ref().and_then(|limits| limits.take(key)).and_then(|item| item.integer(1..=u64::MAX));
    let (tokens, calls, rounds) = (limit("tokens"), limit("calls"), limit("rounds"));
    let cost_usd = limits.as_ref().and_then(|limits| limits.take("cost_usd")?.number(0.0..=f64::MAX));
    let duration_ms = limits.as_ref().and_then(|limits| limits.take("duration")?.duration());
    limits.into_iter().for_each(Table::finish);
    table.finish();
    Some(SamplingGrant {
        consent: consent?,
        models: models.unwrap_or_else(|| vec!["auto".to_owned()]),
        tokens,
        calls,
        rounds: rounds.and_then(|rounds| u32::try_from(rounds).ok()),
        cost_usd,
        duration: duration_ms.map(Duration::from_millis),
    })
}

fn model(item: &Item<'_>, table: &Table<'_>) -> Option<ModelDef> {
    let base_url = table.require("base_url").and_then(|item| address(&item));
    let model = table.require("model").and_then(|item| open(&item));
    let api_key = table.take("api_key").and_then(|item| secret(&item));
    let headers = secrets(table.take("headers"));
    let score = |key| table.take(key).and_then(|item| item.number(0.0..=1.0));
    let (cost, speed, intelligence) = (score("cost"), score("speed"), score("intelligence"));
    let context = table.take("context").and_then(|item| item.integer(1..=u64::MAX));
    let timeout = table.take("timeout").and_then(|item| item.duration()).map(Duration::from_millis);
    let count = |key, most: u32| {
        let count = table.take(key)?.integer(1..=most.into())?;
        NonZeroU32::new(u32::try_from(count).ok()?)
    };
    let (concurrency, requests_per_minute) = (count("concurrency", 1_000), count("requests_per_minute", u32::MAX));
    let price = table.take("price").and_then(|item| {
        let table = item.table()?;
        let price = |key| table.require(key).and_then(|item| item.number(0.0..=f64::MAX));
        let (input, output) = (price("input"), price("output"));
        table.finish();
        Some(Price { input: input?, output: output? })
    });
    Some(ModelDef {
        path: item.cx.text.path.clone(),
        base_url: base_url?,
        model: model?,
        api_key,
        headers: headers?,
        context,
        timeout,
        concurrency,
        requests_per_minute,
        cost,
        speed,
        intelligence,
        price,
    })
}

fn limits(item: &Item<'_>) -> Option<LimitsPart> {
    let table = item.table()?;
    let count = |key, most| table.take(key).and_then(|item| item.integer(1..=most));
    let limits = LimitsPart {
        tokens: count("tokens", u64::MAX),
        cost_usd: table.take("cost_usd").and_then(|item| item.number(0.0..=f64::MAX)),
        calls: count("calls", u64::MAX),
        depth: count("depth", 64),
        duration_ms: table.take("duration").and_then(|item| item.duration()),
        mode: table
            .take("mode")
            .and_then(|item| item.word(&[("enforce", LimitMode::Enforce), ("audit", LimitMode::Audit)])),
    };
    table.finish();
    Some(limits)
}

fn task(item: &Item<'_>) -> Option<TaskPart> {
    let table = item.table()?;
    let mode = table.take("mode");
    let task = TaskPart {
        mode: mode.and_then(|item| {
            item.word(&[("auto", TaskMode::Auto), ("always", TaskMode::Always), ("never", TaskMode::Never)])
        }),
        inline_wait_ms: table.take("inline_wait").and_then(|item| item.duration()),
        ttl_ms: table.take("ttl").and_then(|item| item.duration()),
    };
    table.finish();
    Some(task)
}

/// A text with variables that others may see: a command line, an address.
pub(crate) fn open(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    for piece in pieces(item, text)? {
        if let Piece::Variable { name, default: None } = piece
            && sounds_secret(name)
        {
            let message = format!("`{name}` sounds like a secret, and a `{}` is seen by others", item.key);
            item.refuse(
                OPEN_SECRET,
                message,
                "give it in `env` or `headers`: what stands there is kept out of logs and errors",
            );
        }
    }
    Some(text.to_owned())
}

/// A program, without its arguments. One with a path may have blanks in its name.
fn program(item: &Item<'_>) -> Option<String> {
    let text = open(item)?;
    if let Some((program, _)) = text.trim().split_once(' ')
        && !program.contains(['/', '$'])
    {
        // The rest is not repeated: there may be a secret in it.
        let help = format!("write `{} = {program:?}`, and the rest in `args`, word by word", item.key);
        item.refuse(BAD_VALUE, "a `command` is a program without its arguments", help);
    }
    Some(text)
}

/// Where a server or a model is. What begins with a variable may be an address.
fn address(item: &Item<'_>) -> Option<String> {
    let text = open(item)?;
    if !["http://", "https://", "${"].iter().any(|start| text.starts_with(start)) {
        let message = format!("this `{}` is not an address that can be reached", item.key);
        item.refuse(BAD_VALUE, message, "it begins with `http://` or `https://`");
    }
    Some(text)
}

/// A table of texts that may be secrets.
fn secrets(item: Option<Item<'_>>) -> Option<BTreeMap<String, String>> {
    let Some(item) = item else { return Some(BTreeMap::new()) };
    let read: Vec<_> = item.table()?.items().map(|item| (item.key.to_owned(), secret(&item))).collect();
    read.into_iter().map(|(key, value)| Some((key, value?))).collect()
}

/// A text that may be a secret: one that is called so is not written out in the file.
pub(crate) fn secret(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    let written_out = pieces(item, text)?.iter().all(|piece| matches!(piece, Piece::Text(_)));
    if written_out && !text.is_empty() && sounds_secret(item.key) {
        let variable = match item.key {
            "Authorization" => "Bearer ${TOKEN}".to_owned(),
            key => format!("${{{}}}", key.to_ascii_uppercase().replace('-', "_")),
        };
        item.refuse(
            OPEN_SECRET,
            format!("`{}` is written out in the file", item.key),
            format!("take it from the environment: `\"{variable}\"`"),
        );
    }
    Some(text.to_owned())
}

fn pieces<'t>(item: &Item<'t>, text: &'t str) -> Option<Vec<Piece<'t>>> {
    let malformed = match env::pieces(text) {
        Ok(pieces) => return Some(pieces),
        Err(malformed) => malformed,
    };
    let rest = &text[malformed.at..];
    let end = malformed.at + rest.find('}').map_or(rest.len(), |close| close + 1);
    let message = format!("this `${{…}}` can't be read: {}", malformed.why);
    item.cx.report(
        Diagnostic::new(BAD_VARIABLE, &item.part(malformed.at..end), message)
            .help("write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself"),
    );
    None
}
