//! Expressions and templates: the language of MiniJinja, with its holes closed. Pure.
//!
//! MiniJinja parses, and gives its filters, tests and operators; the tree is walked here, by [`analyze`] before a run and by
//! [`run`] in it. Walking it ourselves is what makes the rules simple: something missing is not a value but a stop
//! (`Stop::Nothing`) on its way up, and a guard (`or`, `default`, `is defined`) is what catches it, however deep
//! below the guard it began. So nothing undefined ever reaches a filter or a result, the reason why something is missing
//! (a step that did not succeed) travels with it, JSON stays borrowed until something computes with it, and every
//! message can name the expression.
//!
//! The other way, MiniJinja's own machine with some filters replaced, was rejected: its undefined values know no reason,
//! `<` can't be replaced without rewriting the source, and a scope would have to be converted as a whole.

mod amount;
mod analyze;
mod apply;
mod chain;
mod eval;
mod filters;
mod job;
mod member;
mod operators;
mod render;
mod replaced;
mod schema;
mod scope;
mod syntax;
mod time;
mod turn;
mod value;

use std::sync::Arc;

use serde_json::Value;

pub use self::analyze::{Analysis, Mode, Reference, Root, analyze};
pub use self::job::{blobs, run};
pub use self::schema::{validate, with_defaults};
pub use self::syntax::{Kind, SyntaxError};

/// Where blobs come from: the driver fetches all that [`blobs`] names first.
pub trait Values {
    /// The value with this hash.
    fn get(&self, sha256: &str) -> Option<Arc<Value>>;
}
