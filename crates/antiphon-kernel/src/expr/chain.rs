//! Chains such as `steps.a.output.items[0].name`.

use minijinja::machinery::ast::Expr;

/// A chain of attributes and subscripts, taken apart.
pub(super) struct Chain<'e, 's> {
    /// What it begins with.
    pub base: &'e Expr<'s>,
    /// Its literal parts up to the first computed one.
    pub literal: Vec<String>,
    /// The node of the last of these.
    pub literal_end: &'e Expr<'s>,
    /// Its computed subscripts.
    pub computed: Vec<&'e Expr<'s>>,
}

impl<'e, 's> Chain<'e, 's> {
    pub(super) fn of(expr: &'e Expr<'s>) -> Self {
        let mut nodes = Vec::new();
        let mut base = expr;
        loop {
            nodes.push(base);
            base = match base {
                Expr::GetAttr(get) => &get.expr,
                Expr::GetItem(get) => &get.expr,
                _ => break,
            };
        }
        let mut chain = Self { base, literal: Vec::new(), literal_end: base, computed: Vec::new() };
        for node in nodes.into_iter().rev() {
            let key = match node {
                Expr::GetAttr(get) => Some(get.name.to_owned()),
                Expr::GetItem(get) => match get.subscript_expr.as_const() {
                    Some(key) if key.as_str().is_some() || key.is_integer() => Some(key.to_string()),
                    _ => {
                        chain.computed.push(&get.subscript_expr);
                        continue;
                    }
                },
                _ => continue,
            };
            if let (Some(key), true) = (key, chain.computed.is_empty()) {
                chain.literal.push(key);
                chain.literal_end = node;
            }
        }
        chain
    }
}
