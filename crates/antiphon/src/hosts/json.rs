//! JSON with comments: read, and edited in place. What is not the entry itself stays as it is, to the byte, but for a comma.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp, Value as Node};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::text::{Wrong, indent, is_blank, newline, own_line};

/// The value of a text; `null` for one without any.
pub fn parse(text: &str) -> Result<Value, Wrong> {
    Ok(root(text)?.map_or(Value::Null, Value::from))
}

/// The text with an entry below `key`, in place of one of that name; none if something else than entries stands there.
pub fn put(text: &str, key: &str, name: &str, value: &Value) -> Option<String> {
    let write = Writing::of(text)?;
    let alone = |value: &Value| Value::Object(Map::from_iter([(name.to_owned(), value.clone())]));
    let Some(root) = &write.root else {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { write.newline };
        let block = Value::Object(Map::from_iter([(key.to_owned(), alone(value))]));
        return Some(format!("{text}{newline}{}{}", write.rendered(&block, ""), write.newline));
    };
    let root = root.as_object()?;
    let Some(servers) = root.get(key) else { return Some(write.insert(root, key, &alone(value))) };
    let servers = servers.value.as_object()?;
    Some(match servers.get(name) {
        None => write.insert(servers, name, value),
        Some(there) => {
            let range = there.value.start()..there.value.end();
            let lines = text[range.clone()].contains('\n') || own_line(text, there.start()).is_some();
            let rendered = if lines { write.rendered(value, indent(text, there.start())) } else { compact(value) };
            write.with(&[(range, rendered)])
        }
    })
}

/// The text without an entry; none if there is no such entry.
pub fn take(text: &str, key: &str, name: &str) -> Option<String> {
    let write = Writing::of(text)?;
    let servers = write.root.as_ref()?.as_object()?.get_object(key)?;
    let place = servers.properties.iter().position(|prop| prop.name.as_str() == name)?;
    Some(write.remove(servers, place))
}

fn root(text: &str) -> Result<Option<Node<'_>>, Wrong> {
    let collect = CollectOptions { comments: CommentCollectionStrategy::Off, tokens: false };
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &collect, &options);
    Ok(parsed
        .map_err(|error| Wrong {
            line: error.line_display(),
            column: error.column_display(),
            why: error.kind().to_string(),
        })?
        .value)
}

/// A text that is being changed, and how it is written.
struct Writing<'t> {
    text: &'t str,
    root: Option<Node<'t>>,
    newline: &'static str,
    /// What one level is indented by.
    unit: String,
}

impl<'t> Writing<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let root = root(text).ok()?;
        let unit = root.as_ref().and_then(Node::as_object).and_then(|root| {
            let inner = own_line(text, root.properties.first()?.start())?;
            let outer = indent(text, root.start());
            Some(inner.strip_prefix(outer).unwrap_or(inner)).filter(|unit| !unit.is_empty())
        });
        Some(Self { text, newline: newline(text), unit: unit.unwrap_or("  ").to_owned(), root })
    }

    /// The text with some of it replaced, in order.
    fn with(&self, changes: &[(Range<usize>, String)]) -> String {
        let mut changed = String::with_capacity(self.text.len() + 200);
        let mut done = 0;
        for (range, new) in changes {
            changed.push_str(&self.text[done..range.start]);
            changed.push_str(new);
            done = range.end;
        }
        changed.push_str(&self.text[done..]);
        changed
    }

    fn insert(&self, object: &Object<'_>, name: &str, value: &Value) -> String {
        match object.properties.last() {
            Some(last) => self.append(object, last, name, value),
            None => self.fill(object, name, value),
        }
    }

    /// After the last of several: in a line of its own if that one is.
    fn append(&self, object: &Object<'_>, last: &ObjectProp<'_>, name: &str, value: &Value) -> String {
        let comma = self.comma_after(last.end(), object.end() - 1);
        let Some(indent) = own_line(self.text, last.start()) else {
            let entry = format!("{}: {}", quoted(name), compact(value));
            return match comma {
                Some(comma) => self.with(&[(comma..comma, format!(" {entry},"))]),
                None => self.with(&[(last.end()..last.end(), format!(", {entry}"))]),
            };
        };
        let place = self.rest_of_line(comma.unwrap_or(last.end()));
        let entry = format!("{}{indent}{}: {}", self.newline, quoted(name), self.rendered(value, indent));
        match comma {
            Some(_) => self.with(&[(place..place, format!("{entry},"))]),
            None => self.with(&[(last.end()..last.end(), ",".to_owned()), (place..place, entry)]),
        }
    }

    /// The only one.
    fn fill(&self, object: &Object<'_>, name: &str, value: &Value) -> String {
        let (open, close) = (object.start() + 1, object.end() - 1);
        let one_line = !self.text[..open].contains('\n') && !self.text[open..].trim_end().contains('\n');
        if one_line && open != 1 {
            return self.with(&[(open..open, format!("{}: {}", quoted(name), compact(value)))]);
        }
        let outer = indent(self.text, object.start());
        let inner = format!("{outer}{}", self.unit);
        let entry = format!("{inner}{}: {}", quoted(name), self.rendered(value, &inner));
        match own_line(self.text, close) {
            // Comments may stand before it; the brace stays where it is.
            Some(blanks) if close - blanks.len() > open => {
                let line = close - blanks.len();
                self.with(&[(line..line, format!("{entry}{}", self.newline))])
            }
            _ => self.with(&[(close..close, format!("{0}{entry}{0}{outer}", self.newline))]),
        }
    }

    fn remove(&self, object: &Object<'_>, place: usize) -> String {
        let prop = &object.properties[place];
        let comma = self.comma_after(prop.end(), object.end() - 1);
        let before = place.checked_sub(1).map(|before| &object.properties[before]);
        let last = place + 1 == object.properties.len();
        let end = comma.unwrap_or(prop.end());
        // The last one takes the comma before it along, unless it has one itself.
        let stray = before.filter(|_| last && comma.is_none()).and_then(|before| {
            let comma = self.comma_after(before.end(), prop.start())?;
            Some((comma - 1..comma, String::new()))
        });
        let own = own_line(self.text, prop.start()).filter(|blanks| blanks.len() < prop.start());
        let mut start = match own {
            Some(blanks) => self.line_end_before(prop.start() - blanks.len()),
            None => prop.start() - self.text[..prop.start()].chars().rev().take_while(|&c| is_blank(c)).count(),
        };
        let mut end = end;
        if before.is_none() && last {
            let (open, close) = (object.start() + 1, object.end() - 1);
            if self.text[open..start].trim().is_empty() && self.text[end..close].trim().is_empty() {
                (start, end) = (open, close);
            }
        } else if before.is_none() && own.is_none() {
            end += self.text[end..].chars().take_while(|&c| is_blank(c)).count();
        }
        let changes: Vec<_> = stray.into_iter().chain([(start..end, String::new())]).collect();
        self.with(&changes)
    }

    /// The place after the comma that follows, if one does before `end`.
    fn comma_after(&self, at: usize, end: usize) -> Option<usize> {
        let comma = self.trivia(at, end, true);
        self.text[comma..end].starts_with(',').then_some(comma + 1)
    }

    /// Where what belongs to this line ends: after comments.
    fn rest_of_line(&self, at: usize) -> usize {
        let end = self.trivia(at, self.text.len(), false);
        at + self.text[at..end].trim_end_matches(is_blank).len()
    }

    /// The end of blanks and comments; of lines too, or within this line.
    fn trivia(&self, from: usize, end: usize, lines: bool) -> usize {
        let mut at = from;
        loop {
            let rest = &self.text[at..end];
            let blanks =
                rest.len() - rest.trim_start_matches(|c| is_blank(c) || lines && matches!(c, '\r' | '\n')).len();
            let rest = &rest[blanks..];
            let comment = if rest.starts_with("//") {
                rest.find(['\r', '\n']).unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                let comment = rest.find("*/").map_or(rest.len(), |close| close + 2);
                if !lines && rest[..comment].contains('\n') { 0 } else { comment }
            } else {
                0
            };
            at += blanks + comment;
            if comment == 0 {
                return at;
            }
        }
    }

    /// Where the line before this one ends.
    fn line_end_before(&self, line: usize) -> usize {
        let before = self.text[..line].strip_suffix('\n').unwrap_or(&self.text[..line]);
        before.strip_suffix('\r').unwrap_or(before).len()
    }

    /// A value over several lines, of which all but the first begin with `indent`. Lists of plain values take one.
    fn rendered(&self, value: &Value, indent: &str) -> String {
        let Some(entries) = value.as_object().filter(|entries| !entries.is_empty()) else { return compact(value) };
        let inner = format!("{indent}{}", self.unit);
        let entry = |name, value| format!("{inner}{}: {}", quoted(name), self.rendered(value, &inner));
        let entries: Vec<String> = entries.iter().map(|(name, value)| entry(name, value)).collect();
        let newline = self.newline;
        format!("{{{newline}{}{newline}{indent}}}", entries.join(&format!(",{newline}")))
    }
}

/// A value in one line.
fn compact(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| format!("{}: {}", quoted(name), compact(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry() -> Value {
        json!({ "command": "/bin/antiphon", "args": ["serve", "/p"] })
    }

    #[track_caller]
    fn becomes(before: &str, after: &str) {
        let put = put(before, "mcpServers", "antiphon", &entry()).unwrap();
        assert_eq!(put, after);
        assert_eq!(super::put(&put, "mcpServers", "antiphon", &entry()).unwrap(), put, "again");
    }

    /// Likewise, and it can be taken out again without any memory of how it was.
    #[track_caller]
    fn and_back(before: &str, after: &str) {
        becomes(before, after);
        assert_eq!(take(after, "mcpServers", "antiphon").unwrap(), before);
    }

    #[test]
    fn an_entry_goes_where_its_file_would_have_it() {
        let alone = "{\n  \"mcpServers\": {\n    \"antiphon\": {\n      \"command\": \"/bin/antiphon\",\n      \"args\": [\"serve\", \"/p\"]\n    }\n  }\n}";
        becomes("", &format!("{alone}\n"));
        becomes("{}", alone);
        becomes("// mine\n", &format!("// mine\n{alone}\n"));
        and_back(
            "{\"mcpServers\":{\"a\":{\"command\":\"x\"}}}",
            "{\"mcpServers\":{\"a\":{\"command\":\"x\"}, \"antiphon\": {\"command\": \"/bin/antiphon\", \"args\": [\"serve\", \"/p\"]}}}",
        );
        and_back(
            "{\"mcpServers\":{}}",
            "{\"mcpServers\":{\"antiphon\": {\"command\": \"/bin/antiphon\", \"args\": [\"serve\", \"/p\"]}}}",
        );
        and_back(
            "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": 1\r\n\t}\r\n}\r\n",
            "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": 1,\r\n\t\t\"antiphon\": {\r\n\t\t\t\"command\": \"/bin/antiphon\",\r\n\t\t\t\"args\": [\"serve\", \"/p\"]\r\n\t\t}\r\n\t}\r\n}\r\n",
        );
    }

    #[test]
    fn comments_and_trailing_commas_stay() {
        and_back(
            "{\n  \"mcpServers\": {\n    \"a\": 1 // first, not last\n    // \"b\": 2\n  }, // all\n}\n",
            "{\n  \"mcpServers\": {\n    \"a\": 1, // first, not last\n    \"antiphon\": {\n      \"command\": \"/bin/antiphon\",\n      \"args\": [\"serve\", \"/p\"]\n    }\n    // \"b\": 2\n  }, // all\n}\n",
        );
        and_back(
            "{\n  \"mcpServers\": {\n    \"a\": 1, /* one\n    more */\n  }\n}\n",
            "{\n  \"mcpServers\": {\n    \"a\": 1,\n    \"antiphon\": {\n      \"command\": \"/bin/antiphon\",\n      \"args\": [\"serve\", \"/p\"]\n    }, /* one\n    more */\n  }\n}\n",
        );
        becomes(
            "{\n  \"mcpServers\": {\n    // none yet\n  }\n}\n",
            "{\n  \"mcpServers\": {\n    // none yet\n    \"antiphon\": {\n      \"command\": \"/bin/antiphon\",\n      \"args\": [\"serve\", \"/p\"]\n    }\n  }\n}\n",
        );
    }

    #[test]
    fn the_first_and_a_middle_one_can_be_taken_out() {
        let text = "{\"s\": {\"a\": 1, \"b\": 2, \"c\": 3}}";
        assert_eq!(take(text, "s", "a").unwrap(), "{\"s\": {\"b\": 2, \"c\": 3}}");
        assert_eq!(take(text, "s", "b").unwrap(), "{\"s\": {\"a\": 1, \"c\": 3}}");
        let text = "{\n  \"s\": {\n    \"a\": 1,\n    \"b\": 2\n  }\n}";
        assert_eq!(take(text, "s", "a").unwrap(), "{\n  \"s\": {\n    \"b\": 2\n  }\n}");
        assert_eq!(take("{\"s\": {}}", "s", "a"), None);
    }

    #[test]
    fn what_is_no_table_of_servers_is_left_alone() {
        for text in ["[]", "1", "{\"mcpServers\": []}", "{\"mcpServers\": null}", "{"] {
            assert_eq!(put(text, "mcpServers", "antiphon", &entry()), None, "{text}");
        }
    }

    #[test]
    fn errors_have_places() {
        let wrong = parse("{\n  \"a\": 1\n  \"b\": 2\n}").unwrap_err();
        assert_eq!((wrong.line, wrong.why.as_str()), (2, "Expected comma"));
    }

    /// Blanks, line ends and comments, as they may stand between any two tokens.
    fn trivia() -> impl Strategy<Value = String> {
        prop_oneof![
            6 => Just(String::new()),
            3 => Just(" ".to_owned()),
            3 => Just("\n  ".to_owned()),
            1 => Just("\r\n\t".to_owned()),
            1 => "[ ]?// [a-z\",}]{0,6}\n",
            1 => "/\\*[a-z\"}, \n]{0,6}\\*/",
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("true".to_owned()),
            Just("null".to_owned()),
            Just("-2.5e3".to_owned()),
            "[a-z:,{} /*\u{e9}]{0,8}".prop_map(|text| Value::from(text).to_string()),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                object(inner.clone(), "[a-f]"),
                (prop::collection::vec((trivia(), inner, trivia()), 0..3), trivia()).prop_map(|(items, end)| {
                    let items: Vec<String> = items.into_iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
                    format!("[{}{end}]", items.join(","))
                }),
            ]
        })
    }

    /// An object of at most one entry a name: which of two would count is not our question.
    fn object(inner: impl Strategy<Value = String>, names: &'static str) -> impl Strategy<Value = String> {
        let entries = prop::collection::btree_map(names, (trivia(), trivia(), trivia(), inner, trivia()), 0..4);
        (entries, trivia(), any::<bool>()).prop_map(|(entries, end, comma)| {
            let comma = if comma && !entries.is_empty() { "," } else { "" };
            let entries =
                entries.into_iter().map(|(name, (a, b, c, value, d))| format!("{a}\"{name}\"{b}:{c}{value}{d}"));
            format!("{{{}{comma}{end}}}", entries.collect::<Vec<_>>().join(","))
        })
    }

    fn document() -> impl Strategy<Value = String> {
        let servers = prop::option::of(object(value(), "[a-f]"));
        let others = prop::collection::btree_map("[a-f]", value(), 0..3);
        (trivia(), others, servers, trivia(), trivia(), trivia(), any::<bool>()).prop_map(
            |(start, others, servers, a, b, end, first)| {
                let mut entries: Vec<String> =
                    others.into_iter().map(|(name, value)| format!("{a}\"{name}\": {value}{b}")).collect();
                if let Some(servers) = servers {
                    let at = if first { 0 } else { entries.len() };
                    entries.insert(at, format!("{a}\"mcpServers\":{servers}{b}"));
                }
                format!("{start}{{{}{end}}}{end}", entries.join(","))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn all_else_stays_to_the_byte(before in document()) {
            let old = parse(&before).unwrap();
            let after = put(&before, "mcpServers", "antiphon", &entry()).unwrap();

            let mut wanted = old.clone();
            wanted.as_object_mut().unwrap().entry("mcpServers").or_insert(json!({}))["antiphon"] = entry();
            prop_assert_eq!(parse(&after).unwrap(), wanted);

            // One insertion, and before it at most a comma.
            let same = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
            let tail = before.bytes().rev().zip(after.bytes().rev()).take_while(|(a, b)| a == b).count();
            if same + tail < before.len() {
                let between = &before.as_bytes()[same..before.len() - tail];
                prop_assert!(after.as_bytes()[same..].starts_with(&[b",", between].concat()), "{}", after);
            }

            prop_assert_eq!(put(&after, "mcpServers", "antiphon", &entry()).unwrap(), after.clone());
            let back = take(&after, "mcpServers", "antiphon").unwrap();
            if old["mcpServers"].as_object().is_some_and(|servers| !servers.is_empty()) {
                prop_assert_eq!(back, before);
            } else {
                prop_assert_eq!(&parse(&back).unwrap()["mcpServers"], &json!({}));
            }
        }
    }
}
