//! MiniJinja's parser, with bounds, byte spans and messages for people.

use std::ops::Range;
use std::sync::OnceLock;

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{self, Span, Token};
use minijinja::syntax::SyntaxConfig;

/// How deep a tree may nest: the parser's own bound does not see `a.b.c…` or `elif`.
pub(super) const MAX_DEPTH: u32 = 100;

/// The most tokens that one `{{ … }}`, `{% … %}` or bare expression may have: what keeps the parser's recursion shallow.
const MAX_TOKENS: usize = 1_000;

/// How deep brackets may nest: each costs the parser a dozen calls.
const MAX_BRACKETS: u32 = 40;

/// The statements of the language.
const STATEMENTS: &[&str] = &["for", "if", "set", "with", "filter", "raw"];

/// What MiniJinja has and this language leaves out.
const LEFT_OUT: &[&str] = &["include", "import", "from", "extends", "block", "macro", "call", "do", "autoescape"];

/// For braces that were not meant.
const IF_TEXT: &str = "if it is text, put `{% raw %}` before and `{% endraw %}` after it";

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text with `{{ … }}` and `{% … %}` in it.
    Template,
    /// A bare expression, such as a condition.
    Expression,
}

/// What is wrong with a source, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// For people.
    pub message: String,
    /// Bytes of the source.
    pub span: Range<usize>,
}

impl SyntaxError {
    pub(super) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), span }
    }
}

/// A syntax tree.
pub(super) enum Tree<'s> {
    /// Of a bare expression.
    Expression(Expr<'s>),
    /// Of a template.
    Template {
        /// Always a [`Stmt::Template`].
        root: Stmt<'s>,
        /// The template is, trimmed, exactly one `{{ … }}`.
        single: bool,
    },
}

impl<'s> Tree<'s> {
    /// The one expression whose value the source yields, JSON type and all.
    pub(super) fn single(&self) -> Option<&Expr<'s>> {
        match self {
            Self::Expression(expr) => Some(expr),
            Self::Template { single: false, .. } => None,
            Self::Template { .. } => self.statements().iter().find_map(|stmt| match stmt {
                Stmt::EmitExpr(emit) => Some(&emit.expr),
                _ => None,
            }),
        }
    }

    /// The statements of a template.
    pub(super) fn statements(&self) -> &[Stmt<'s>] {
        match self {
            Self::Template { root: Stmt::Template(template), .. } => &template.children,
            _ => &[],
        }
    }
}

/// Parses a source.
pub(super) fn parse(source: &str, kind: Kind) -> Result<Tree<'_>, SyntaxError> {
    if kind == Kind::Expression && source.trim_start().starts_with("{{") {
        return Err(SyntaxError::new("this is an expression by itself: write it without `{{ }}`", 0..source.len()));
    }
    check_bounds(source, kind)?;
    match kind {
        Kind::Expression => machinery::parse_expr(source).map(Tree::Expression),
        Kind::Template => machinery::parse(source, "", syntax()).map(|root| {
            let single = is_single(source, &root);
            Tree::Template { root, single }
        }),
    }
    .map_err(|error| explain(source, &error))
}

/// A template's text is what stands there: no newline is dropped.
fn syntax() -> SyntaxConfig {
    static SYNTAX: OnceLock<SyntaxConfig> = OnceLock::new();
    SYNTAX.get_or_init(|| SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default()).clone()
}

fn is_single(source: &str, root: &Stmt<'_>) -> bool {
    let Stmt::Template(template) = root else { return false };
    let trimmed = source.trim();
    let only_one = template.children.iter().filter(|stmt| matches!(stmt, Stmt::EmitExpr(_))).count() == 1;
    let rest_is_space = template.children.iter().all(|stmt| match stmt {
        Stmt::EmitExpr(_) => true,
        Stmt::EmitRaw(raw) => raw.raw.trim().is_empty(),
        _ => false,
    });
    only_one && rest_is_space && trimmed.starts_with("{{") && trimmed.ends_with("}}")
}

/// Refuses what would make the parser, or the drop of its tree, recurse deeply.
fn check_bounds(source: &str, kind: Kind) -> Result<(), SyntaxError> {
    if u32::try_from(source.len()).is_err() {
        return Err(SyntaxError::new("this is longer than 4 GiB", 0..0));
    }
    let (mut start, mut tokens, mut brackets, mut branches) = (0, 0, 0_u32, 0);
    for token in machinery::tokenize(source, kind == Kind::Expression, syntax()) {
        let Ok((token, span)) = token else { break }; // the parser will say it better
        match token {
            Token::VariableStart | Token::BlockStart => (start, tokens, brackets) = (span.start_offset as usize, 0, 0),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => brackets += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => brackets = brackets.saturating_sub(1),
            Token::Ident("elif") => branches += 1,
            _ => {}
        }
        tokens += 1;
        let end = span.end_offset as usize;
        if tokens > MAX_TOKENS {
            return Err(SyntaxError::new(format!("this expression has more than {MAX_TOKENS} parts"), start..end));
        }
        if brackets > MAX_BRACKETS {
            return Err(SyntaxError::new("this is nested too deeply", start..end));
        }
        if branches > MAX_DEPTH {
            return Err(SyntaxError::new(format!("there are more than {MAX_DEPTH} `elif`"), start..end));
        }
    }
    Ok(())
}

/// The parser's error, in this language's words.
fn explain(source: &str, error: &minijinja::Error) -> SyntaxError {
    let detail = error.detail().unwrap_or("this can't be read");
    let span = clamp(source, error.range().unwrap_or(0..source.len()));
    let message = match detail.strip_prefix("unknown statement ") {
        Some(name) if LEFT_OUT.contains(&name) => match name {
            "include" | "import" | "from" | "extends" => {
                format!("there is no `{{% {name} %}}` here: a long text is `{{ file = \"prompts/x.md\" }}` in the TOML")
            }
            _ => format!("there is no `{{% {name} %}}` here"),
        },
        Some(name) => match name.strip_prefix("end").filter(|opening| STATEMENTS.contains(opening)) {
            Some(opening) => format!("`{{% {name} %}}` without its `{{% {opening} %}}`"),
            None => match did_you_mean(name, STATEMENTS) {
                hint if hint.is_empty() => format!("there is no `{{% {name} %}}`; {IF_TEXT}"),
                hint => format!("there is no `{{% {name} %}}`{hint} Or {IF_TEXT}"),
            },
        },
        None if detail == "unexpected end of comment" => format!("`{{#` begins a comment that does not end; {IF_TEXT}"),
        None => detail.to_owned(),
    };
    SyntaxError::new(message, span)
}

/// Where an expression stands: from its leftmost part (the parser's own spans begin late in a chain) to its end.
pub(super) fn range(source: &str, expr: &Expr<'_>) -> Range<usize> {
    let span = clamp(source, leftmost(expr).start_offset as usize..expr.span().end_offset as usize);
    // Parentheses around the left operand are not part of any node.
    let unopened = unopened_parens(&source[span.clone()]);
    let before = source[..span.start].char_indices().rev();
    let start = before.filter(|(_, c)| *c == '(').take(unopened).last().map_or(span.start, |(at, _)| at);
    start..span.end
}

fn leftmost(expr: &Expr<'_>) -> Span {
    match expr {
        Expr::GetAttr(e) => leftmost(&e.expr),
        Expr::GetItem(e) => leftmost(&e.expr),
        Expr::Slice(e) => leftmost(&e.expr),
        Expr::Call(e) => leftmost(&e.expr),
        Expr::BinOp(e) => leftmost(&e.left),
        Expr::Compare(e) => leftmost(&e.expr),
        Expr::IfExpr(e) => leftmost(&e.true_expr),
        Expr::Test(e) => leftmost(&e.expr),
        Expr::Filter(e) => e.expr.as_ref().map_or_else(|| e.span(), leftmost),
        other => other.span(),
    }
}

fn unopened_parens(text: &str) -> usize {
    let (mut open, mut unopened) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' => open += 1,
            ')' if open == 0 => unopened += 1,
            ')' => open -= 1,
            _ => {}
        }
    }
    unopened
}

/// The span, inside the source and on character boundaries.
fn clamp(source: &str, span: Range<usize>) -> Range<usize> {
    let floor = |at: usize| source.floor_char_boundary(at.min(source.len()));
    let end = floor(span.end);
    floor(span.start).min(end)..end
}

/// The text of an expression, for a message.
pub(super) fn snippet(source: &str, expr: &Expr<'_>) -> String {
    const MAX: usize = 80;
    let text = &source[range(source, expr)];
    match text.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `: did you mean …?` for the nearest of the known names, if one is near.
pub(super) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let near = |known: &&str| strsim::damerau_levenshtein(name, known);
    match known.iter().min_by_key(|known| near(known)) {
        Some(best) if near(best) <= 1 + name.chars().count() / 4 => format!("; did you mean `{best}`?"),
        _ => String::new(),
    }
}
