//! YAML: read, and edited in place, by lines. A mapping in block style is what Goose writes; others are left alone.

use std::ops::Range;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::text::{Wrong, newline};

/// The value of a text; `null` for one without any.
pub fn parse(text: &str) -> Result<Value, Wrong> {
    let documents = load(text)?;
    match documents.as_slice() {
        [] => Ok(Value::Null),
        [document] => Ok(value(document)),
        [_, second, ..] => {
            Err(Wrong { line: second.span.start.line(), column: 1, why: "there is more than one document".to_owned() })
        }
    }
}

/// The text with an entry below `key`, in place of one of that name; none if `key` is written in a way that lines can't be
/// added to.
pub fn put(text: &str, key: &str, name: &str, value: &Value) -> Option<String> {
    let documents = load(text).ok()?;
    let newline = newline(text);
    let block = |indent: usize, step: usize| written_stepped(&alone(name, value), indent, step, newline);
    let found = match documents.first() {
        Some(root) => find(root, key)?,
        None => None,
    };
    let Some((place, servers)) = found else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
        return Some(format!("{text}{gap}{}", written(&alone(key, &alone(name, value)), 0, newline)));
    };
    let lines = Lines::of(text);
    if let YamlData::Value(Scalar::Null) = servers.data {
        // `extensions:` or `extensions: null`
        let line = lines.range(place..place + 1);
        let (head, comment) = head(&text[line.clone()], key)?;
        let entry = format!("{head}{comment}{newline}{}", block(2, 2));
        return Some(splice(text, line, &entry));
    }
    let YamlData::Mapping(entries) = &servers.data else { return None };
    if entries.is_empty() {
        let line = lines.range(place..place + 1);
        let (head, comment) = head(&text[line.clone()].replacen("{}", "", 1), key)?;
        let entry = format!("{head}{comment}{newline}{}", block(2, 2));
        return Some(splice(text, line, &entry));
    }
    let indent = lines.block_indent(servers)?;
    let block = block(indent, indent.max(1));
    match find(servers, name)? {
        Some((start, old)) => Some(splice(text, lines.range(start..lines.end_of(old, indent + 1)), &block)),
        None => {
            let at = lines.range(0..lines.end_of(servers, indent)).end;
            let gap = if text[..at].ends_with('\n') { "" } else { newline };
            Some(splice(text, at..at, &format!("{gap}{block}")))
        }
    }
}

/// The text without an entry; none if there is no such entry.
pub fn take(text: &str, key: &str, name: &str) -> Option<String> {
    let documents = load(text).ok()?;
    let (place, servers) = find(documents.first()?, key)??;
    let (start, old) = find(servers, name)??;
    let lines = Lines::of(text);
    let indent = lines.block_indent(servers)?;
    let taken = splice(text, lines.range(start..lines.end_of(old, indent + 1)), "");
    let YamlData::Mapping(entries) = &servers.data else { return None };
    if entries.len() > 1 {
        return Some(taken);
    }
    // The last one: an empty mapping has to be written out.
    let line = lines.range(place..place + 1);
    let (head, comment) = head(&text[line.clone()], key)?;
    Some(splice(&taken, line, &format!("{head} {{}}{comment}{}", newline(text))))
}

/// A value in block style, every line indented.
fn written(value: &Value, indent: usize, newline: &str) -> String {
    written_stepped(value, indent, 2, newline)
}

fn written_stepped(value: &Value, indent: usize, step: usize, newline: &str) -> String {
    let blanks = " ".repeat(indent);
    let mut text = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let key = scalar(&Value::from(key.as_str()));
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                text.push_str(&format!(
                    "{blanks}{key}:{newline}{}",
                    written_stepped(value, indent + step, step, newline)
                ));
            }
            Value::Array(items) if !items.is_empty() => {
                text.push_str(&format!("{blanks}{key}:{newline}"));
                for item in items {
                    text.push_str(&format!("{blanks}- {}{newline}", scalar(item)));
                }
            }
            plain => text.push_str(&format!("{blanks}{key}: {}{newline}", scalar(plain))),
        }
    }
    text
}

/// A plain value. JSON is YAML, so what is not surely a text without quotes is quoted.
fn scalar(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ ".contains(c))
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { value.to_string() }
}

fn alone(name: &str, value: &Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.clone())]))
}

fn load(text: &str) -> Result<Vec<MarkedYaml<'_>>, Wrong> {
    MarkedYaml::load_from_str(text).map_err(|error| Wrong {
        line: error.marker().line(),
        column: error.marker().col() + 1,
        why: error.info().to_owned(),
    })
}

fn value(node: &MarkedYaml<'_>) -> Value {
    match &node.data {
        YamlData::Value(Scalar::Boolean(boolean)) => (*boolean).into(),
        YamlData::Value(Scalar::Integer(integer)) => (*integer).into(),
        YamlData::Value(Scalar::FloatingPoint(float)) => float.into_inner().into(),
        YamlData::Value(Scalar::String(text)) | YamlData::Representation(text, ..) => text.as_ref().into(),
        YamlData::Sequence(items) => items.iter().map(value).collect(),
        YamlData::Mapping(entries) => {
            entries.iter().map(|(key, entry)| (key_of(key), value(entry))).collect::<Map<_, _>>().into()
        }
        YamlData::Tagged(_, node) => value(node),
        YamlData::Value(Scalar::Null) | YamlData::Alias(_) | YamlData::BadValue => Value::Null,
    }
}

fn key_of(node: &MarkedYaml<'_>) -> String {
    match value(node) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The line (from 0) and the value of an entry; the outer none if this is no mapping.
#[expect(clippy::option_option, reason = "not a mapping, and not in the mapping, are different")]
fn find<'n, 'i>(node: &'n MarkedYaml<'i>, key: &str) -> Option<Option<(usize, &'n MarkedYaml<'i>)>> {
    let YamlData::Mapping(entries) = &node.data else { return None };
    let found = entries.iter().find(|(name, _)| key_of(name) == key);
    Some(found.map(|(name, value)| (name.span.start.line() - 1, value)))
}

/// A line `key:  # comment`, without a value, as `key:` and what follows; none if it has another shape.
fn head(line: &str, key: &str) -> Option<(String, String)> {
    let line = line.trim_end();
    let rest = line.strip_prefix(key)?.strip_prefix(':')?;
    let bare = rest.trim_start();
    let bare = bare
        .strip_prefix("null")
        .or_else(|| bare.strip_prefix('~'))
        .or_else(|| bare.strip_prefix("{}"))
        .unwrap_or(bare);
    let comment = bare.trim_start();
    (comment.is_empty() || comment.starts_with('#')).then(|| {
        let comment = if comment.is_empty() { String::new() } else { format!("  {comment}") };
        (format!("{key}:"), comment)
    })
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    [&text[..range.start], new, &text[range.end..]].concat()
}

/// Where lines are. They are counted from 0.
struct Lines<'t> {
    text: &'t str,
    /// Where each begins, and the end of the text.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let mut starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        if starts.last() != Some(&text.len()) {
            starts.push(text.len());
        }
        Self { text, starts }
    }

    /// The bytes of these lines.
    fn range(&self, lines: Range<usize>) -> Range<usize> {
        let at = |line: usize| self.starts.get(line).copied().unwrap_or(self.text.len());
        at(lines.start)..at(lines.end)
    }

    /// The line after the last one of a value in block style, whose lines are indented at least so. Blank lines and comments
    /// after it that are indented less belong to what follows.
    fn end_of(&self, node: &MarkedYaml<'_>, indent: usize) -> usize {
        let end = node.span.end;
        // What ends a block is the next key, in a line of its own, or the end of the text.
        let mut line =
            if end.col() == 0 || self.is_own(end.line() - 1, end.col()) { end.line() - 1 } else { end.line() };
        line = line.max(node.span.start.line());
        while line > node.span.start.line() {
            let last = &self.text[self.range(line - 1..line)];
            let blanks = last.len() - last.trim_start_matches(' ').len();
            let foreign = last.trim().is_empty() || last.trim_start().starts_with('#') && blanks < indent;
            if !foreign {
                break;
            }
            line -= 1;
        }
        line
    }

    /// Whether only blanks stand before this column of a line.
    fn is_own(&self, line: usize, column: usize) -> bool {
        self.text[self.range(line..line + 1)].chars().take(column).all(|c| c == ' ')
    }

    /// How far the entries of a mapping in block style are indented.
    fn block_indent(&self, node: &MarkedYaml<'_>) -> Option<usize> {
        let start = node.span.start;
        (start.col() > 0
            && self.is_own(start.line() - 1, start.col())
            && !self.text[self.range(start.line() - 1..start.line())].trim_start().starts_with('{'))
        .then_some(start.col())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry() -> Value {
        json!({ "enabled": true, "cmd": "/bin/antiphon", "args": ["serve", "--trust"] })
    }

    const BLOCK: &str =
        "  antiphon:\n    enabled: true\n    cmd: /bin/antiphon\n    args:\n    - serve\n    - \"--trust\"\n";

    #[track_caller]
    fn and_back(before: &str, after: &str) {
        let put = put(before, "extensions", "antiphon", &entry()).unwrap();
        assert_eq!(put, after);
        assert_eq!(super::put(&put, "extensions", "antiphon", &entry()).unwrap(), put, "again");
        assert_eq!(take(&put, "extensions", "antiphon").unwrap(), before);
    }

    #[test]
    fn an_entry_goes_after_the_others() {
        let others =
            "# mine\nGOOSE_MODEL: x\nextensions:\n  dev:\n    enabled: true\n    note: |\n      # no comment\n";
        let rest = "\n# after\nOTHER: [1, 2] # two\n";
        and_back(&format!("{others}{rest}"), &format!("{others}{BLOCK}{rest}"));
        and_back(others, &format!("{others}{BLOCK}"));
        and_back("extensions: {}  # none\nx: 1\n", &format!("extensions:  # none\n{BLOCK}x: 1\n"));
        let wide = "extensions:\n    dev:\n        enabled: true\n";
        let put = put(wide, "extensions", "antiphon", &entry()).unwrap();
        assert!(put.starts_with(&format!("{wide}    antiphon:\n        enabled: true\n")), "{put}");
    }

    #[test]
    fn a_file_without_extensions_gets_them() {
        for before in ["", "# mine\n", "x: 1\n", "x: 1"] {
            let put = put(before, "extensions", "antiphon", &entry()).unwrap();
            let gap = if before.ends_with('1') { "\n" } else { "" };
            assert_eq!(put, format!("{before}{gap}extensions:\n{BLOCK}"));
        }
        for empty in ["extensions:\n", "extensions: null\n", "extensions: ~\n"] {
            assert_eq!(put(empty, "extensions", "antiphon", &entry()).unwrap(), format!("extensions:\n{BLOCK}"));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_alone() {
        for text in ["extensions: {a: {b: 1}}\n", "- a\n", "extensions: [a]\n", "extensions:\n  {a: 1}\n"] {
            assert_eq!(put(text, "extensions", "antiphon", &entry()), None, "{text}");
        }
    }

    #[test]
    fn plain_texts_are_quoted_where_they_must_be() {
        for text in ["/bin/x", "a b", "--x", "yes", "1", "a: b", "# c", "", "x ", "\u{e9}", "a\"b\n", "~"] {
            let written = written(&json!({ "k": text }), 0, "\n");
            assert_eq!(parse(&written).unwrap(), json!({ "k": text }), "{written}");
        }
    }

    /// An extension as Goose writes it, or as somebody has edited it.
    fn extension() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("    enabled: true\n"),
            Just("    type: stdio # a comment\n"),
            Just("    args:\n    - -y\n    - \"#x\"\n"),
            Just("    envs: {A: b}\n"),
            Just("    description: >-\n      two\n\n      lines\n"),
            Just("    # a comment inside\n    timeout: 300\n"),
            Just("    note: |\n      # text\n"),
        ];
        prop::collection::btree_set(line, 1..5).prop_map(|lines| lines.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn all_else_stays_to_the_byte(
            before in prop_oneof![Just(""), Just("# Goose\n\nGOOSE_MODEL: x\n"), Just("a:\n- b\n")],
            extensions in prop::collection::btree_map("[a-f]{1,3}", extension(), 1..4),
            after in prop_oneof![Just(""), Just("\n"), Just("# end\n"), Just("\n\n# next\nOTHER: 1\n"), Just("z: {y: 1}\n")],
        ) {
            let extensions: String = extensions.into_iter().map(|(name, lines)| format!("  {name}:\n{lines}")).collect();
            let text = format!("{before}extensions:\n{extensions}{after}");
            let old = parse(&text).unwrap();
            let changed = put(&text, "extensions", "antiphon", &entry()).unwrap();
            let mut wanted = old;
            wanted["extensions"]["antiphon"] = entry();
            prop_assert_eq!(parse(&changed).unwrap(), wanted);
            prop_assert_eq!(&changed, &format!("{before}extensions:\n{extensions}{BLOCK}{after}"));
            prop_assert_eq!(take(&changed, "extensions", "antiphon").unwrap(), text);
        }
    }
}
