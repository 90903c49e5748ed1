//! What `check` says: where, what is wrong, and what to do.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{LabeledSpan, Severity, SourceCode};
use serde_json::{Value, json};

use crate::code::{Code, UNREADABLE};
use crate::secrets;

/// One file as it was given: what the places of diagnostics are in.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text as diagnostics show it: as long, but without the secrets that somebody wrote into it.
    shown: String,
}

impl Text {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { path: path.into(), shown: secrets::masked(&text), text }
    }

    /// As much of a span as is on its first line: the place of a long value is where it begins.
    fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let text = self.text.get(span.clone()).unwrap_or_default();
        span.start..span.start + text.lines().next().map_or(0, str::len)
    }

    /// Line and column of a byte offset, both from 1; columns count characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl SourceCode for Text {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let inner = self.shown.read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.path.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// A piece of a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) text: Arc<Text>,
    pub(crate) span: Range<usize>,
}

impl Place {
    /// As `ship.toml:12`.
    pub(crate) fn line(&self) -> String {
        format!("{}:{}", self.text.path, self.text.position(self.span.start).0)
    }
}

/// An error, a warning or a piece of information about a file.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    code: Code,
    message: String,
    help: Option<String>,
    text: Arc<Text>,
    labels: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    pub(crate) fn new(code: Code, place: &Place, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
            text: place.text.clone(),
            labels: vec![(place.text.first_line(&place.span), String::new())],
        }
    }

    /// A workflow file that can't be read at all.
    pub fn unreadable(path: &str, why: impl fmt::Display) -> Self {
        let place = Place { text: Arc::new(Text::new(path, "")), span: 0..0 };
        Self::new(UNREADABLE, &place, format!("this file can't be read: {why}"))
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|help| !help.is_empty());
        self
    }

    /// What to say at the place itself.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.labels[0].1 = label.into();
        self
    }

    /// A second place. One in another file is named in the help instead.
    pub(crate) fn also(mut self, place: &Place, label: impl Into<String>) -> Self {
        let label = label.into();
        if Arc::ptr_eq(&place.text, &self.text) {
            self.labels.push((place.text.first_line(&place.span), label));
        } else {
            let note = format!("{label}: {}", place.line());
            self.help = Some(self.help.map_or(note.clone(), |help| format!("{help}; {note}")));
        }
        self
    }

    /// What it is about.
    pub fn code(&self) -> Code {
        self.code
    }

    /// How grave it is.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Whether the file can't be used as it is.
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file that it is about.
    pub fn path(&self) -> &str {
        &self.text.path
    }

    /// Line and column where it begins, both from 1.
    pub fn position(&self) -> (usize, usize) {
        self.text.position(self.labels[0].0.start)
    }

    /// The diagnostic as data: `code`, `severity`, `message`, `path`, `line`, `column`, `help`, `page`.
    pub fn to_json(&self) -> Value {
        let severity = match self.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Advice => "information",
        };
        let (line, column) = self.position();
        json!({
            "code": self.code.as_str(), "severity": severity, "message": self.message, "path": self.path(),
            "line": line, "column": column, "help": self.help, "page": self.code.page(),
        })
    }

    /// By file, then by place.
    pub(crate) fn order(&self) -> (String, usize, &'static str) {
        (self.text.path.clone(), self.labels[0].0.start, self.code.as_str())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.code.severity())
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.page()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(
            self.labels.iter().map(|(span, label)| {
                LabeledSpan::new((!label.is_empty()).then(|| label.clone()), span.start, span.len())
            }),
        ))
    }
}

/// `did you mean …?` for the candidate nearest to `word`, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= word.len().max(candidate.len()).div_ceil(3).min(word.len() / 2))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Help for a word that is none of these: the nearest, else all of them.
pub(crate) fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<_> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
    (!all.is_empty() && all.len() <= 20).then(|| format!("there are: {}", all.join(", ")))
}
