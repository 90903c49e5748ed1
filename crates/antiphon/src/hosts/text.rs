//! What editing JSON and YAML in place has in common.

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, counted from 1.
    pub line: usize,
    /// Where in the line, counted from 1.
    pub column: usize,
    /// What is wrong. Nothing of the file is repeated: it may be full of secrets.
    pub why: String,
}

/// How the text ends its lines.
pub fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Where the line of a place begins.
pub fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The blanks before a place, if there is nothing else before it in its line.
pub fn own_line(text: &str, at: usize) -> Option<&str> {
    let before = &text[line_start(text, at)..at];
    before.chars().all(is_blank).then_some(before)
}

/// The blanks that the line of a place begins with.
pub fn indent(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..];
    &line[..line.find(|c| !is_blank(c)).unwrap_or(line.len())]
}

/// A space or a tab.
pub fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}
