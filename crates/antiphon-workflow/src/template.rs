//! Templates and expressions of the file: where each is, what it mentions, and whether it may.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use antiphon_kernel::expr::{self, Kind, Mode, Root};
use antiphon_kernel::{Expr, Source};
use indexmap::IndexMap;
use serde_json::Value;
use toml::de::DeValue;

use crate::code::{
    BAD_EXPRESSION, BRACES_IN_EXPRESSION, BRACES_IN_PROSE, NOT_BOOLEAN, NOT_EXPANDED, NOT_VISIBLE, UNKNOWN_INPUT,
    UNKNOWN_VARIABLE, UNREADABLE,
};
use crate::diagnostic::{Diagnostic, Place, Text, suggest};
use crate::parsed::{How, Mention};
use crate::read::{Context, Item};

/// The names, beside `steps`, that an expression may mention.
#[derive(Clone, Default)]
pub(crate) struct Names {
    pub(crate) vars: BTreeSet<String>,
    /// The properties of the input, when they are all known.
    pub(crate) inputs: Option<Arc<BTreeSet<String>>>,
}

impl Names {
    /// These names and one more.
    pub(crate) fn with(&self, name: &str) -> Self {
        let mut more = self.clone();
        more.vars.insert(name.to_owned());
        more
    }
}

/// Reads templates, and collects what they mention.
pub(crate) struct Templates<'c> {
    cx: &'c Context<'c>,
    pub(crate) mentions: Vec<Mention>,
}

/// Where a part of a template's text is.
type Origin<'o> = dyn Fn(Range<usize>) -> Place + 'o;

/// What a template reads, as [`Expr`] has it.
#[derive(Default)]
struct Reads {
    steps: BTreeSet<String>,
    vars: BTreeSet<String>,
}

impl<'c> Templates<'c> {
    pub(crate) fn new(cx: &'c Context<'c>) -> Self {
        Self { cx, mentions: Vec::new() }
    }

    /// Any value; its strings are templates.
    pub(crate) fn value(&mut self, item: &Item<'_>, names: &Names) -> Option<Expr> {
        let mut reads = Reads::default();
        let source = self.source(item, names, &mut reads)?;
        Some(finish(source, reads))
    }

    /// A table of values, some of whose keys were read otherwise.
    pub(crate) fn map(parts: Vec<(String, Expr)>) -> Expr {
        let mut reads = Reads::default();
        let mut map = IndexMap::new();
        for (key, expr) in parts {
            reads.steps.extend(expr.steps);
            reads.vars.extend(expr.vars);
            map.insert(key, expr.source);
        }
        finish(collapse(Source::Map(map)), reads)
    }

    /// A string that is a template.
    pub(crate) fn template(&mut self, item: &Item<'_>, names: &Names) -> Option<Expr> {
        item.string()?;
        self.value(item, names)
    }

    /// A long text: a template, dedented, here or in a file.
    pub(crate) fn prose(&mut self, item: &Item<'_>, names: &Names) -> Option<Expr> {
        let mut reads = Reads::default();
        let text = match item.get() {
            DeValue::String(text) => {
                self.analyze(text, Kind::Template, &|part| item.part(part), names, &mut reads)?;
                dedent(text)
            }
            DeValue::Table(_) => {
                let file = self.text_of_file(item)?;
                let origin = |span| Place { text: file.clone(), span };
                self.analyze(&file.text, Kind::Template, &origin, names, &mut reads)?;
                dedent(&file.text)
            }
            _ => {
                item.expected("a text", "write a string, or `{ file = \"prompts/x.md\" }`");
                return None;
            }
        };
        Some(finish(as_source(&text), reads))
    }

    /// A bare expression.
    pub(crate) fn expression(&mut self, item: &Item<'_>, names: &Names) -> Option<Expr> {
        let text = item.string()?;
        let mut reads = Reads::default();
        if text.contains("{{") || text.contains("{%") {
            self.cx.report(
                Diagnostic::new(
                    BRACES_IN_EXPRESSION,
                    &item.place(),
                    format!("`{}` is an expression, not a template", item.key),
                )
                .help(format!(
                    "write it without the braces: `{} = \"{}\"`",
                    item.key,
                    strip_braces(text)
                )),
            );
            return None;
        }
        self.analyze(text, Kind::Expression, &|part| item.part(part), names, &mut reads)?;
        Some(finish(Source::Expression(text.to_owned()), reads))
    }

    /// An expression that yields true or false.
    pub(crate) fn condition(&mut self, item: &Item<'_>, names: &Names) -> Option<Expr> {
        if let Some(boolean) = item.get().as_bool() {
            return Some(finish(Source::Literal(Value::Bool(boolean)), Reads::default()));
        }
        if !item.get().is_str() {
            item.expected("an expression that is true or false", "write it as a string: `\"steps.x.output > 3\"`");
            return None;
        }
        let expr = self.expression(item, names)?;
        if let Some(what) = item.get().as_str().and_then(never_boolean) {
            item.refuse(
                NOT_BOOLEAN,
                format!("`{}` must be true or false, and this is {what}", item.key),
                "compare it with something: `steps.x.output == 'yes'`",
            );
            return None;
        }
        Some(expr)
    }

    fn source(&mut self, item: &Item<'_>, names: &Names, reads: &mut Reads) -> Option<Source> {
        let source = match item.get() {
            DeValue::String(text) => {
                self.not_expanded(text, item);
                self.analyze(text, Kind::Template, &|part| item.part(part), names, reads)?;
                as_source(text)
            }
            DeValue::Array(_) => {
                let items = item.list("")?;
                // All elements are read, so that each error is reported.
                let read: Vec<_> = items.iter().map(|item| self.source(item, names, reads)).collect();
                Source::List(read.into_iter().collect::<Option<_>>()?)
            }
            DeValue::Table(_) => {
                let read: Vec<_> =
                    item.table()?.items().map(|item| (item.key.to_owned(), self.source(&item, names, reads))).collect();
                Source::Map(read.into_iter().map(|(key, source)| Some((key, source?))).collect::<Option<_>>()?)
            }
            _ => Source::Literal(item.json()?),
        };
        Some(collapse(source))
    }

    fn text_of_file(&self, item: &Item<'_>) -> Option<Arc<Text>> {
        let table = item.table()?;
        let file = table.require("file");
        table.finish();
        let file = file?;
        let path = self.cx.beside(file.string()?);
        match (self.cx.read)(&path) {
            Ok(text) => Some(Arc::new(Text::new(path, text))),
            Err(error) => {
                file.refuse(
                    UNREADABLE,
                    format!("`{path}` can't be read: {error}"),
                    "the path is relative to this file's folder",
                );
                None
            }
        }
    }

    /// Reads what a template mentions, and checks the names that are not steps.
    fn analyze(&mut self, text: &str, kind: Kind, origin: &Origin<'_>, names: &Names, reads: &mut Reads) -> Option<()> {
        let analysis = match expr::analyze(text, kind) {
            Ok(analysis) => analysis,
            Err(error) => {
                self.cx.report(explain(text, kind, &error, origin));
                return None;
            }
        };
        for reference in analysis.references {
            let place = origin(reference.span.clone());
            match reference.root {
                Root::Step(step) => {
                    reads.steps.insert(step.clone());
                    let how = match reference.mode {
                        Mode::Uses => How::Uses,
                        Mode::Guarded => How::Guarded,
                        Mode::Asks => How::Asks,
                    };
                    self.mentions.push(Mention { step, path: reference.path, how, place });
                }
                Root::Var(name) => {
                    self.check_variable(&name, &reference.path, &place, names);
                    reads.vars.insert(name);
                }
            }
        }
        Some(())
    }

    fn check_variable(&self, name: &str, path: &[String], place: &Place, names: &Names) {
        let known = names.vars.iter().map(String::as_str).chain(["steps"]);
        if !names.vars.contains(name) {
            let help = match name {
                "item" | "index" => Some("only a step with `for_each`, and the steps inside it, has it"),
                "round" | "previous" => Some("only a step with `repeat`, and the steps inside it, has it"),
                "output" => Some("only `until`, `expect` and `undo` see the step's own `output`"),
                _ => None,
            };
            self.cx.report(match help {
                Some(help) => Diagnostic::new(NOT_VISIBLE, place, format!("there is no `{name}` here")).help(help),
                None => {
                    let help = suggest(name, known).unwrap_or_default();
                    Diagnostic::new(UNKNOWN_VARIABLE, place, format!("there is no `{name}`")).help(help)
                }
            });
        } else if name == "input"
            && let (Some(inputs), Some(first)) = (&names.inputs, path.first())
            && !inputs.contains(first)
        {
            let help = suggest(first, inputs.iter().map(String::as_str));
            let diagnostic = Diagnostic::new(UNKNOWN_INPUT, place, format!("there is no input `{first}`"));
            self.cx.report(diagnostic.help(
                help.unwrap_or_else(|| format!("declare it: `[input]` with `{first} = {{ type = \"string\" }}`")),
            ));
        }
    }

    /// `${VAR}` in an argument is a mistake: only servers and models may see the environment.
    fn not_expanded(&self, text: &str, item: &Item<'_>) {
        let variable = text.match_indices("${").find_map(|(at, _)| {
            let end = at + text[at..].find('}')?;
            let name = text[at + 2..end].split(":-").next()?;
            let plausible =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            plausible.then_some(at..end + 1)
        });
        if let Some(range) = variable {
            let message = format!(
                "`{}` stays as it is: the environment is seen by `[servers]` and `[models]` only",
                &text[range.clone()]
            );
            self.cx.report(
                Diagnostic::new(NOT_EXPANDED, &item.part(range), message)
                    .help("give the server the variable in its `env` or `headers`, or make it an `[input]`"),
            );
        }
    }
}

fn explain(text: &str, kind: Kind, error: &expr::SyntaxError, origin: &Origin<'_>) -> Diagnostic {
    let open_comment = text.rfind("{#").filter(|at| !text[*at..].contains("#}"));
    if kind == Kind::Template && (open_comment.is_some() || stray_statement(text)) {
        let span = open_comment.map_or_else(|| error.span.clone(), |at| at..at + 2);
        let (what, _) = error.message.split_once("; if it is text").unwrap_or((&error.message, ""));
        return Diagnostic::new(BRACES_IN_PROSE, &origin(span), what)
            .help("if it is meant as text, put `{% raw %}` before and `{% endraw %}` after it");
    }
    let what = if kind == Kind::Template { "template" } else { "expression" };
    let message = format!("this {what} can't be read: {}", error.message);
    let diagnostic = Diagnostic::new(BAD_EXPRESSION, &origin(error.span.clone()), message);
    // What the parser itself says is terse; the rest says what to do.
    match kind {
        _ if !error.message.starts_with("unexpected") => diagnostic,
        Kind::Expression => {
            diagnostic.help("texts inside an expression stand in single quotes: `output.state == 'passed'`")
        }
        Kind::Template => diagnostic.help("`{{ … }}` holds an expression, `{% if … %} … {% endif %}` a statement"),
    }
}

/// Whether some `{%` is not followed by the name of a statement.
fn stray_statement(text: &str) -> bool {
    const STATEMENTS: &[&str] = &[
        "if",
        "elif",
        "else",
        "endif",
        "for",
        "endfor",
        "set",
        "endset",
        "with",
        "endwith",
        "filter",
        "endfilter",
        "raw",
        "endraw",
        "include",
        "import",
        "from",
        "extends",
        "block",
        "endblock",
        "macro",
        "endmacro",
        "call",
        "endcall",
        "do",
        "autoescape",
        "endautoescape",
    ];
    text.split("{%").skip(1).any(|rest| {
        let rest = rest.trim_start_matches(['-', '+']).trim_start();
        let word = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        !STATEMENTS.contains(&word)
    })
}

/// What a literal that is no condition is.
fn never_boolean(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if text.parse::<f64>().is_ok() {
        Some("a number")
    } else if inner('\'').is_some_and(|inner| !inner.contains('\''))
        || inner('"').is_some_and(|inner| !inner.contains('"'))
    {
        Some("a text")
    } else if text == "none" || text == "None" {
        Some("nothing")
    } else {
        None
    }
}

fn strip_braces(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(text).trim()
}

/// A string's source: text without braces stands for itself.
fn as_source(text: &str) -> Source {
    if text.contains('{') { Source::Template(text.to_owned()) } else { Source::Literal(Value::from(text)) }
}

/// A list or map of literals is a literal.
fn collapse(source: Source) -> Source {
    let literal = |source: &Source| matches!(source, Source::Literal(_));
    let value = |source| match source {
        Source::Literal(value) => value,
        _ => Value::Null,
    };
    match source {
        Source::List(items) if items.iter().all(literal) => {
            Source::Literal(Value::Array(items.into_iter().map(value).collect()))
        }
        Source::Map(items) if items.values().all(literal) => {
            Source::Literal(Value::Object(items.into_iter().map(|(key, source)| (key, value(source))).collect()))
        }
        source => source,
    }
}

fn finish(source: Source, reads: Reads) -> Expr {
    Expr { source, steps: reads.steps, vars: reads.vars }
}

/// An expression that is just this value.
pub(crate) fn literal(value: impl Into<Value>) -> Expr {
    finish(Source::Literal(value.into()), Reads::default())
}

/// Removes the indentation that all lines share, and the white space at the end.
pub(crate) fn dedent(text: &str) -> String {
    let blank = |line: &&str| line.trim().is_empty();
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = text.lines().filter(|line| !blank(line)).map(indent).min().unwrap_or(0);
    let lines: Vec<_> = text.lines().map(|line| line.get(common..).unwrap_or_default()).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::dedent;

    #[test]
    fn texts_are_dedented() {
        assert_eq!(dedent("  a\n\n    b\n  c\n"), "a\n\n  b\nc");
        assert_eq!(dedent("a\n  b"), "a\n  b");
        assert_eq!(dedent(""), "");
    }
}
