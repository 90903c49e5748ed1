//! The language, seen from outside: files in, plans and diagnostics out.

mod any_text;
mod broken;
mod common;
mod good;
mod pages;
mod schema;
mod traps;
