//! Tables: keys are taken one by one, and what nobody took is unknown.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Context, Item};
use crate::code::{KEY_AFTER_TABLE, MISSING_KEY, UNKNOWN_KEY};
use crate::diagnostic::{Diagnostic, Place, suggest};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `[a.b]`
    Header,
    /// `a = { … }`
    Inline,
    /// `a.b = …`, or only as part of another header.
    Implicit,
}

/// The table around this one, for keys that were meant for it: TOML gives a key to the last header above it.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    pub(crate) keys: &'static [&'static str],
    pub(crate) what: &'static str,
}

/// A table.
pub(crate) struct Table<'t> {
    pub(crate) cx: &'t Context<'t>,
    pub(crate) span: Range<usize>,
    pub(crate) spelling: Spelling,
    entries: Vec<Item<'t>>,
    asked: RefCell<Vec<&'static str>>,
    taken: RefCell<Vec<&'t str>>,
    outer: Option<Outer>,
}

impl<'t> Table<'t> {
    pub(crate) fn new(cx: &'t Context<'t>, span: Range<usize>, table: &'t DeTable<'t>) -> Self {
        let spelling = match cx.slice(span.clone()).as_bytes().first() {
            Some(b'[') => Spelling::Header,
            Some(b'{') => Spelling::Inline,
            _ => Spelling::Implicit,
        };
        let mut entries: Vec<_> = table.iter().map(|(key, value)| Item::new(cx, key, value)).collect();
        entries.sort_by_key(|item| item.key_span.start);
        Self { cx, span, spelling, entries, asked: RefCell::default(), taken: RefCell::default(), outer: None }
    }

    /// The whole document.
    pub(crate) fn root(cx: &'t Context<'t>, document: &'t Spanned<DeTable<'t>>) -> Self {
        Self::new(cx, 0..0, document.get_ref())
    }

    /// Names the keys of the table around this one.
    pub(crate) fn inside(mut self, outer: Outer) -> Self {
        self.outer = Some(outer);
        self
    }

    pub(crate) fn place(&self) -> Place {
        self.cx.place(self.span.clone())
    }

    /// The value of a key, if it is there.
    pub(crate) fn take(&self, key: &'static str) -> Option<Item<'t>> {
        self.asked.borrow_mut().push(key);
        let item = self.entries.iter().find(|item| item.key == key)?;
        self.taken.borrow_mut().push(item.key);
        Some(item.clone())
    }

    /// The value of a key; it is an error if there is none.
    pub(crate) fn require(&self, key: &'static str) -> Option<Item<'t>> {
        let item = self.take(key);
        if item.is_none() {
            let message = format!("the key `{key}` is missing");
            self.cx.report(Diagnostic::new(MISSING_KEY, &self.place(), message).help(format!("add `{key} = …`")));
        }
        item
    }

    /// Counts an entry as taken: what is wrong with it has been said.
    pub(crate) fn dismiss(&self, item: &Item<'t>) {
        self.taken.borrow_mut().push(item.key);
    }

    /// Whether a key is there; it does not count as taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|item| item.key == key)
    }

    /// All entries, in the order of the file: for tables whose keys are free.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'t>> {
        self.entries.iter().cloned()
    }

    /// What nobody has taken so far.
    pub(crate) fn rest(&self) -> Vec<Item<'t>> {
        let taken = self.taken.borrow();
        self.entries.iter().filter(|item| !taken.contains(&item.key)).cloned().collect()
    }

    /// Says of all that is left that it is unknown.
    pub(crate) fn finish(self) {
        for item in self.rest() {
            if !self.misplaced(&item) {
                self.unknown(&item);
            }
        }
    }

    /// Says of one key that it is unknown.
    pub(crate) fn unknown(&self, item: &Item<'t>) {
        let mut diagnostic = Diagnostic::new(UNKNOWN_KEY, &item.key_place(), format!("unknown key `{}`", item.key));
        if let Some(help) = suggest(item.key, self.asked.borrow().iter().copied()) {
            diagnostic = diagnostic.help(help);
        }
        self.cx.report(diagnostic);
    }

    /// Whether a key, which makes no sense here, was meant for the table around; says so.
    pub(crate) fn misplaced(&self, item: &Item<'t>) -> bool {
        let Some(outer) = self
            .outer
            .filter(|outer| self.spelling == Spelling::Header && !item.is_quoted() && outer.keys.contains(&item.key))
        else {
            return false;
        };
        let header = self.cx.slice(self.span.clone());
        let (key, what) = (item.key, outer.what);
        self.cx.report(
            Diagnostic::new(
                KEY_AFTER_TABLE,
                &item.key_place(),
                format!("`{key}` belongs to `{header}` here, not to the {what}"),
            )
            .also(&self.place(), "this table begins here, and goes on to the next header")
            .help(format!("`{key}` is a key of the {what}: move it above `{header}`")),
        );
        true
    }
}

impl<'t> Item<'t> {
    fn new(cx: &'t Context<'t>, key: &'t Spanned<toml::de::DeString<'t>>, value: &'t Spanned<DeValue<'t>>) -> Self {
        Self { cx, key: key.get_ref(), key_span: key.span(), value }
    }
}
