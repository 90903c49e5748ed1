//! Where secrets stood, variables stand.

use super::Work;
use super::fill::{Part, parts, written};
use crate::hosts::Host;
use crate::hosts::needs::{Origin, is_variable, variable};
use crate::hosts::secret::is_secret;

/// What a variable is for that takes the place of a secret and a variable. The secret is not repeated.
const WHOLE: &str = "all of it: there, a part is written out, and a part filled in";

impl Work<'_, '_> {
    pub(super) fn claim(&mut self, wanted: &str, origin: Origin, about: Option<&str>) -> String {
        let wanted = if is_variable(wanted) { wanted.to_owned() } else { variable(wanted) };
        self.needs.claim(&wanted, &origin, about, self.cx.key)
    }

    /// A name for what only this server has.
    fn named(&self, what: &str) -> String {
        let (name, what) = (variable(self.cx.name), variable(what));
        // The header `CONTEXT7_API_KEY` of `context7` needs no other name.
        if what.starts_with(&format!("{name}_")) { what } else { format!("{name}_{what}") }
    }

    /// A text that others may see: a command line, an address. Where it has a secret, all of it becomes a variable.
    pub(super) fn open(&mut self, text: &str, flag: Option<&str>, what: &str) -> Result<String, String> {
        let parts = parts(text, &self.cx, &self.own, false)?;
        let literal: String = parts.iter().filter_map(Part::literal).collect();
        let written_out = match parts.as_slice() {
            [Part::Text(text)] => holds_secret(flag, text),
            _ => holds_secret(None, &literal),
        };
        let hidden = parts.iter().any(Part::sounds_secret);
        if !written_out && !hidden {
            return Ok(self.fill(parts));
        }
        let (origin, about) = match parts.as_slice() {
            [Part::Text(text)] => (Origin::Value(text.clone()), None),
            _ if written_out => (Origin::Input(text.to_owned()), Some(WHOLE.to_owned())),
            _ => (Origin::Input(text.to_owned()), Some(format!("`{text}`, filled in"))),
        };
        let name = self.claim(&self.named(what), origin, about.as_deref());
        let place = if what == "URL" { "address" } else { "command line" };
        let note =
            format!("its {place} has a secret in it, which others on this machine may see: `env` or a header is safer");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        Ok(format!("${{{name}}}"))
    }

    /// A text that others never see: a variable's or header's value.
    pub(super) fn hidden(&mut self, name: &str, text: &str, header: bool) -> Result<String, String> {
        let bare = header && self.cx.source.host == Some(Host::Goose);
        let parts = parts(text, &self.cx, &[], bare)?;
        let written_out = |part: &Part| part.literal().is_some_and(|text| is_secret("", text));
        match parts.as_slice() {
            [] => Ok(String::new()),
            [Part::Text(text)] if is_secret(name, text) => {
                let (scheme, secret) = match text.split_once(' ').filter(|_| header) {
                    Some((scheme, secret))
                        if ["bearer", "basic", "token"].contains(&scheme.to_ascii_lowercase().as_str()) =>
                    {
                        (format!("{scheme} "), secret.to_owned())
                    }
                    _ => (String::new(), text.clone()),
                };
                let wanted = match name {
                    name if !header => name.to_owned(),
                    "Authorization" | "authorization" => self.named("TOKEN"),
                    name => self.named(name.trim_start_matches("X-").trim_start_matches("x-")),
                };
                let needed = self.claim(&wanted, Origin::Value(secret), None);
                Ok(format!("{scheme}${{{needed}}}"))
            }
            _ if parts.iter().any(written_out) => {
                let wanted = if header { self.named(name) } else { name.to_owned() };
                let needed = self.claim(&wanted, Origin::Input(text.to_owned()), Some(WHOLE));
                Ok(format!("${{{needed}}}"))
            }
            _ => Ok(self.fill(parts)),
        }
    }

    /// The text in our spelling; its variables are needed from now on.
    fn fill(&mut self, parts: Vec<Part>) -> String {
        let filled = parts.into_iter().map(|part| match part {
            Part::Needed { name, default: None, origin, about } => {
                Part::Ours(format!("${{{}}}", self.claim(&name, origin, about.as_deref())))
            }
            Part::Needed { name, default: Some(default), .. } => Part::Ours(format!("${{{name}:-{default}}}")),
            other => other,
        });
        written(&filled.collect::<Vec<_>>())
    }
}

/// Whether an argument or an address has a secret in it: after a flag, as `NAME=value`, as `Header: value`, or as it is.
fn holds_secret(flag: Option<&str>, text: &str) -> bool {
    let pair = |(name, value): (&str, &str)| is_secret(name, value);
    is_secret(flag.unwrap_or_default(), text)
        || !text.contains("://") && (text.split_once('=').is_some_and(pair) || text.split_once(':').is_some_and(pair))
}
