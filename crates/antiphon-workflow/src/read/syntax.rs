//! TOML's own errors and traps, said in a way that helps.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Context;
use crate::code::{INLINE_TABLE, SYNTAX, TWO_SPELLINGS};
use crate::diagnostic::Diagnostic;

/// How deep values may nest.
const MAX_DEPTH: usize = 100;

/// Parses a document: what could be read of it, and whether that is all.
pub(crate) fn parse<'t>(cx: &'t Context<'_>) -> (Spanned<DeTable<'t>>, bool) {
    let text = &cx.text.text;
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut last_line = None;
    for error in &errors {
        let span = clamp(text, error.span().unwrap_or(text.len()..text.len()));
        // One mistake often breaks the rest of its line: the first error of a line is the one to mend.
        let line = text[..span.start].matches('\n').count();
        if last_line.replace(line) == Some(line) {
            continue;
        }
        cx.report(explain(cx, error.message(), span));
    }
    if let Some(span) = too_deep(document.get_ref()) {
        let help = format!("values nest at most {MAX_DEPTH} deep");
        cx.report(Diagnostic::new(SYNTAX, &cx.place(span), "this is nested too deeply").help(help));
        return (document, false);
    }
    inline_tables(cx, document.get_ref());
    (document, errors.is_empty())
}

/// The first value that is nested too deeply: all that walk the tree do so by recursion.
fn too_deep(table: &DeTable<'_>) -> Option<Range<usize>> {
    let mut todo: Vec<_> = table.values().map(|value| (value, 1)).collect();
    while let Some((value, depth)) = todo.pop() {
        if depth > MAX_DEPTH {
            return Some(value.span());
        }
        match value.get_ref() {
            DeValue::Array(array) => todo.extend(array.iter().map(|value| (value, depth + 1))),
            DeValue::Table(table) => todo.extend(table.values().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    None
}

/// Keeps a span inside the text, on whole characters.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

fn explain(cx: &Context<'_>, message: &str, span: Range<usize>) -> Diagnostic {
    let place = cx.place(span.clone());
    if message != "duplicate key" {
        let (rest, line) = (&cx.text.text[span.start..], line_before(&cx.text.text, span.start));
        let diagnostic = Diagnostic::new(SYNTAX, &place, format!("this is not TOML: {message}"));
        return match help(message, rest, line) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        };
    }
    let key = cx.slice(span.clone());
    let line = line_before(&cx.text.text, span.start);
    let diagnostic = Diagnostic::new(TWO_SPELLINGS, &place, format!("`{key}` is defined twice"));
    let diagnostic = match first_definition(cx, span.start) {
        Some(first) => diagnostic.label("again").also(&cx.place(first), "first here"),
        None => diagnostic,
    };
    diagnostic.help(if line.trim_start().starts_with('[') || line.contains('.') {
        "a table is written in one way only: with a header, or with dotted keys, or inline; put its keys in one place"
    } else {
        "a key stands once in its table; remove one of the two"
    })
}

/// The line up to an offset.
fn line_before(text: &str, at: usize) -> &str {
    &text[text[..at].rfind('\n').map_or(0, |newline| newline + 1)..at]
}

fn help(message: &str, rest: &str, line: &str) -> Option<&'static str> {
    if line.trim_start().starts_with('[') && !line.contains('=') {
        Some("a header is `[steps.NAME]`, alone on its line")
    } else if message.contains("string") && (rest.starts_with(['"', '\'', '\n']) || line.contains(['"', '\''])) {
        Some("a string ends on its line; a longer one stands between `\"\"\"`")
    } else if line.trim_end().ends_with('=') {
        Some("texts are quoted: `key = \"value\"`")
    } else {
        None
    }
}

/// Where the key that is defined again at `at` was first defined: the text above it is still free of that error.
fn first_definition(cx: &Context<'_>, at: usize) -> Option<Range<usize>> {
    let text = &cx.text.text;
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let line = text[line_start..line_end].trim();
    let path = |dotted: &str| -> Vec<String> {
        let keys = dotted.split('.').map(|key| key.trim().trim_matches(['"', '\'']).to_owned());
        keys.filter(|key| !key.is_empty()).collect()
    };
    let keys = if line.starts_with('[') {
        path(line.trim_matches(['[', ']']))
    } else {
        let header = text[..line_start].lines().rev().map(str::trim).find(|line| line.starts_with('['));
        let mut keys = header.map(|header| path(header.trim_matches(['[', ']']))).unwrap_or_default();
        keys.extend(path(line.split('=').next()?));
        keys
    };
    let above = DeTable::parse_recoverable(&text[..line_start]).0;
    let mut table = above.get_ref();
    let mut first = None;
    for key in &keys {
        let Some((key, value)) = table.get_key_value(key.as_str()) else { break };
        first = Some(key.span());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    first
}

/// Warns of inline tables that span lines or end in a comma: TOML 1.1 allows them, most editors and formatters do not.
fn inline_tables(cx: &Context<'_>, table: &DeTable<'_>) {
    for value in table.values() {
        inline_value(cx, value);
    }
}

fn inline_value(cx: &Context<'_>, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::Array(array) => array.iter().for_each(|value| inline_value(cx, value)),
        DeValue::Table(table) => {
            let span = value.span();
            let source = cx.slice(span.clone());
            if source.starts_with('{') && is_toml_1_1(source, span.start, table) {
                let first_line = span.start..span.start + source.find('\n').unwrap_or(source.len());
                cx.report(
                    Diagnostic::new(
                        INLINE_TABLE,
                        &cx.place(first_line),
                        "this inline table is TOML 1.1: many editors and formatters refuse it",
                    )
                    .help("write it on one line without a comma at its end, or as a table with a header of its own"),
                );
            } else {
                inline_tables(cx, table);
            }
        }
        _ => {}
    }
}

/// Whether there is a newline, or a comma before the brace, outside of the values.
fn is_toml_1_1(source: &str, offset: usize, table: &DeTable<'_>) -> bool {
    let mut own: Vec<u8> = source.bytes().collect();
    let mut values = Vec::new();
    leaves(table, &mut values);
    for span in values {
        let (start, end) = (span.start.saturating_sub(offset), span.end.saturating_sub(offset).min(own.len()));
        own[start.min(end)..end].fill(b'v');
    }
    let last = own.iter().rev().filter(|byte| !byte.is_ascii_whitespace()).nth(1);
    own.contains(&b'\n') || last == Some(&b',')
}

/// The spans of a table's values; dotted keys make tables that have no text of their own.
fn leaves(table: &DeTable<'_>, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) if value.span() == key.span() => leaves(inner, spans),
            _ => spans.push(value.span()),
        }
    }
}
