//! A typed walk over TOML that keeps every place, so that every error has one.

mod item;
mod syntax;
mod table;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use item::Item;
pub(crate) use syntax::parse;
pub(crate) use table::{Outer, Spelling, Table};

use crate::diagnostic::{Diagnostic, Place, Text};
use crate::project::ReadFile;

/// The file being read, and what is to be said about it.
pub(crate) struct Context<'a> {
    pub(crate) text: Arc<Text>,
    pub(crate) read: &'a ReadFile<'a>,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(text: Arc<Text>, read: &'a ReadFile<'a>) -> Self {
        Self { text, read, diagnostics: RefCell::default() }
    }

    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        Place { text: self.text.clone(), span }
    }

    pub(crate) fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// The source text of a span.
    pub(crate) fn slice(&self, span: Range<usize>) -> &str {
        self.text.text.get(span).unwrap_or_default()
    }

    /// A path that stands in this file, made relative to what the file itself is relative to.
    pub(crate) fn beside(&self, path: &str) -> String {
        match self.text.path.rsplit_once('/') {
            Some((folder, _)) if !path.starts_with('/') => format!("{folder}/{path}"),
            _ => path.to_owned(),
        }
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics.into_inner()
    }
}
