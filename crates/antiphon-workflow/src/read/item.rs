//! One value, with the key that it stands under.

use std::ops::{Range, RangeInclusive};

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::{Context, Table};
use crate::code::{BAD_VALUE, Code, UNQUOTED, WRONG_TYPE};
use crate::diagnostic::{Diagnostic, Place, suggest};
use crate::duration;

/// A value of the file. The typed readers yield `None` after they have said what is wrong.
#[derive(Clone)]
pub(crate) struct Item<'t> {
    pub(crate) cx: &'t Context<'t>,
    /// The key; of an element of a list, that of the list.
    pub(crate) key: &'t str,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Item<'t> {
    pub(crate) fn get(&self) -> &'t DeValue<'t> {
        self.value.get_ref()
    }

    pub(crate) fn place(&self) -> Place {
        self.cx.place(self.value.span())
    }

    pub(crate) fn key_place(&self) -> Place {
        self.cx.place(self.key_span.clone())
    }

    /// The place of a part of a string, if the string stands in the file as it is; else of all of it.
    pub(crate) fn part(&self, part: Range<usize>) -> Place {
        let mut place = self.place();
        let source = self.cx.slice(place.span.clone());
        let quotes =
            ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| source.starts_with(quotes)).unwrap_or_default();
        let inner = source[quotes.len()..].strip_suffix(quotes).unwrap_or_default();
        // The first newline of a long string does not belong to it.
        let text = match inner.strip_prefix("\r\n").or_else(|| inner.strip_prefix('\n')) {
            Some(text) if quotes.len() == 3 => text,
            _ => inner,
        };
        if self.get().as_str() == Some(text) {
            let base = place.span.start + quotes.len() + inner.len() - text.len();
            place.span = base + part.start..base + part.end;
        }
        place
    }

    /// Whether the key is written in quotes: somebody meant it.
    pub(crate) fn is_quoted(&self) -> bool {
        self.cx.slice(self.key_span.clone()).starts_with(['"', '\''])
    }

    /// Reports something about the value.
    pub(crate) fn refuse(&self, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.cx.report(Diagnostic::new(code, &self.place(), message).help(help));
    }

    /// Reports that the value has the wrong type.
    pub(crate) fn expected(&self, what: &str, help: &str) {
        if self.is_unquoted() {
            return;
        }
        let found = self.get().type_str();
        let mut diagnostic = Diagnostic::new(
            WRONG_TYPE,
            &self.place(),
            format!("`{}` must be {what}, not {}", self.key, article(found)),
        );
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.cx.report(diagnostic);
    }

    /// Whether the value is a date, `nan` or `inf`, which JSON does not have; says so.
    fn is_unquoted(&self) -> bool {
        let what = match self.get() {
            DeValue::Datetime(_) => "dates and times",
            DeValue::Float(float) if !finite(float.as_str()) => "`nan` and `inf`",
            _ => return false,
        };
        let text = self.cx.slice(self.value.span());
        self.refuse(UNQUOTED, format!("{what} are not values here"), format!("quote it: `\"{text}\"`"));
        true
    }

    pub(crate) fn string(&self) -> Option<&'t str> {
        let text = self.get().as_str();
        if text.is_none() {
            self.expected("a string", "");
        }
        text
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let found = self.get().as_bool();
        if found.is_none() {
            self.expected("`true` or `false`", "");
        }
        found
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.get().as_integer() else {
            self.expected("a whole number", "");
            return None;
        };
        let found = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|found| range.contains(found));
        if found.is_none() {
            let upwards = *range.end() == u64::MAX;
            let bounds = if upwards { format!("at least {}", range.start()) } else { bounds(&range) };
            self.refuse(
                BAD_VALUE,
                format!("`{}` must be {bounds}", self.key),
                format!("write a number that is {bounds}"),
            );
        }
        found
    }

    /// A number within bounds.
    pub(crate) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let found = match self.get() {
            DeValue::Integer(integer) => as_i64(integer).map(|integer| integer as f64),
            DeValue::Float(float) if finite(float.as_str()) => float.as_str().parse().ok(),
            _ => {
                self.expected("a number", "");
                return None;
            }
        };
        let found = found.filter(|found| range.contains(found));
        if found.is_none() {
            let bounds = if *range.end() == f64::MAX { format!("at least {}", range.start()) } else { bounds(&range) };
            self.refuse(
                BAD_VALUE,
                format!("`{}` must be {bounds}", self.key),
                format!("write a number that is {bounds}"),
            );
        }
        found
    }

    /// A duration such as `"30s"`, in milliseconds.
    pub(crate) fn duration(&self) -> Option<u64> {
        let Some(text) = self.get().as_str() else {
            self.expected("a duration", duration::HELP);
            return None;
        };
        let found = duration::parse(text);
        if found.is_none() {
            self.refuse(BAD_VALUE, format!("`{text}` is not a duration"), duration::HELP);
        }
        found
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let help = suggest(text, words.iter().map(|(word, _)| *word)).unwrap_or_default();
            self.refuse(BAD_VALUE, format!("`{}` can't be `{text}`", self.key), help);
        }
        found
    }

    pub(crate) fn table(&self) -> Option<Table<'t>> {
        match self.get() {
            DeValue::Table(table) => Some(Table::new(self.cx, self.value.span(), table)),
            _ => {
                self.expected("a table", "");
                None
            }
        }
    }

    /// The elements of a list.
    pub(crate) fn list(&self, help: &str) -> Option<Vec<Self>> {
        match self.get() {
            DeValue::Array(array) => Some(array.iter().map(|value| Self { value, ..self.clone() }).collect()),
            _ => {
                self.expected("a list", help);
                None
            }
        }
    }

    /// A list of strings, each with its place.
    pub(crate) fn strings(&self, help: &str) -> Option<Vec<(&'t str, Place)>> {
        self.list(help)?.iter().map(|item| Some((item.string()?, item.place()))).collect()
    }

    /// Any value, as JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        match self.get() {
            DeValue::String(text) => Some(Value::from(text.as_ref())),
            DeValue::Boolean(boolean) => Some(Value::from(*boolean)),
            DeValue::Integer(integer) => match as_i64(integer) {
                Some(integer) => Some(Value::from(integer)),
                None => {
                    self.refuse(BAD_VALUE, "this number is too large", "whole numbers have at most 64 bits; quote it");
                    None
                }
            },
            DeValue::Float(_) | DeValue::Datetime(_) if self.is_unquoted() => None,
            DeValue::Float(float) => {
                float.as_str().parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
            }
            DeValue::Datetime(_) => None,
            DeValue::Array(_) => self.list("")?.iter().map(Self::json).collect::<Option<_>>().map(Value::Array),
            DeValue::Table(_) => {
                let items =
                    self.table()?.items().map(|item| Some((item.key.to_owned(), item.json()?))).collect::<Option<_>>();
                items.map(Value::Object)
            }
        }
    }
}

fn as_i64(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn finite(float: &str) -> bool {
    float.parse().is_ok_and(f64::is_finite)
}

fn bounds<T: std::fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("between {} and {}", range.start(), range.end())
}

/// The type's name with its article.
fn article(kind: &str) -> String {
    match kind {
        "array" => "a list".to_owned(),
        "integer" => "a number".to_owned(),
        "float" => "a number with a point".to_owned(),
        "datetime" => "a date".to_owned(),
        kind => format!("a {kind}"),
    }
}
