//! What a server is, as the configuration says.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::auth::Auth;
use crate::back::WayBack;

/// One server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What people call it: a key of `[servers]`.
    pub name: String,
    /// How to reach it.
    pub transport: Transport,
    /// What it is given in confidence. Should it repeat any of these, in a result or in an error, `***` is what is heard.
    pub secrets: Vec<SecretString>,
    /// Globs (`*` and `?`) of the tools that may be called. `None`: all of them.
    pub allow: Option<Vec<String>>,
    /// Only tools whose annotations say that they change nothing may be called. That is the server's own word.
    pub read_only: bool,
    /// How long a call may be silent. Progress starts the time anew.
    pub timeout: Duration,
    /// Whether runs share a connection; `None` leaves it to what the server can do (see [`Session`]).
    pub session: Option<Session>,
    /// Whether the server may put questions to people.
    pub elicitation: Consent,
    /// Whether the server is offered `sampling`, with tools: only where it will be answered.
    pub sampling: bool,
    /// How its process, if it is one, comes back in.
    pub back: WayBack,
    /// Bounds that no workflow file sets.
    pub limits: Limits,
}

impl ServerConfig {
    /// A server with every setting at its default.
    pub fn new(name: impl Into<String>, transport: Transport) -> Self {
        Self {
            name: name.into(),
            transport,
            secrets: Vec::new(),
            allow: None,
            read_only: false,
            timeout: Duration::from_secs(60),
            session: None,
            elicitation: Consent::Deny,
            sampling: false,
            back: WayBack::default(),
            limits: Limits::default(),
        }
    }

    /// Whether `allow` covers this tool.
    pub fn allows(&self, tool: &str) -> bool {
        self.allow.as_ref().is_none_or(|globs| globs.iter().any(|glob| matches(glob, tool)))
    }

    /// Whether a tool may be called, given what its `readOnlyHint` says.
    pub fn admits(&self, tool: &str, read_only: bool) -> bool {
        self.allows(tool) && (read_only || !self.read_only)
    }

    /// Whether the server may ask anything in the middle of a call.
    pub(crate) fn may_ask(&self) -> bool {
        self.elicitation.granted() || self.sampling
    }

    /// Whether both lead to the same server in the same way.
    pub fn same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.transport.same_as(&other.transport)
            && self.allow == other.allow
            && self.read_only == other.read_only
            && self.timeout == other.timeout
            && self.session == other.session
            && self.elicitation == other.elicitation
            && self.sampling == other.sampling
            && self.back == other.back
            && self.limits == other.limits
    }

    /// The text without the secrets that this server was given, should it repeat one of them.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        hidden(text, &self.given())
    }

    /// Whether it was given anything that must not be heard from it.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || self.transport.auth().is_some()
    }

    /// What it was given, with the token that it was shown last.
    fn given(&self) -> Cow<'_, [SecretString]> {
        match self.transport.auth().and_then(|auth| auth.last()) {
            None => Cow::Borrowed(&self.secrets),
            Some(token) => Cow::Owned(self.secrets.iter().cloned().chain([token]).collect()),
        }
    }

    /// Likewise for all texts in a value.
    pub(crate) fn redact_all(&self, value: &mut Value) {
        let given = self.given();
        if !given.is_empty() {
            hide_all(value, &given);
        }
    }
}

fn hidden<'a>(text: &'a str, secrets: &[SecretString]) -> Cow<'a, str> {
    /// Shorter values are words rather than secrets, and hiding them would garble every message.
    const SHORTEST: usize = 6;
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().map(SecretString::expose_secret).filter(|secret| secret.len() >= SHORTEST) {
        if text.contains(secret) {
            text = Cow::Owned(text.replace(secret, "***"));
        }
    }
    text
}

fn hide_all(value: &mut Value, secrets: &[SecretString]) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(redacted) = hidden(text, secrets) {
                *text = redacted;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_all(item, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide_all(field, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How a server is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A child process that speaks over its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables added to the few that every child inherits.
        env: Vec<(String, SecretString)>,
        /// Its working directory; ours if `None`.
        cwd: Option<PathBuf>,
    },
    /// A streamable HTTP endpoint.
    Http {
        /// The endpoint.
        url: String,
        /// Sent with every request.
        headers: Vec<(String, SecretString)>,
        /// Where its token comes from, if it wants one.
        auth: Option<Arc<Auth>>,
    },
}

impl Transport {
    fn same_as(&self, other: &Self) -> bool {
        fn same(a: &[(String, SecretString)], b: &[(String, SecretString)]) -> bool {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.expose_secret() == b.1.expose_secret())
        }
        match (self, other) {
            (
                Self::Stdio { command, args, env, cwd },
                Self::Stdio { command: command_2, args: args_2, env: env_2, cwd: cwd_2 },
            ) => command == command_2 && args == args_2 && cwd == cwd_2 && same(env, env_2),
            (Self::Http { url, headers, auth }, Self::Http { url: url_2, headers: headers_2, auth: auth_2 }) => {
                let same_auth = match (auth, auth_2) {
                    (Some(auth), Some(other)) => auth.same_as(other),
                    (auth, other) => auth.is_none() && other.is_none(),
                };
                url == url_2 && same(headers, headers_2) && same_auth
            }
            _ => false,
        }
    }

    /// Where the server's token comes from, if it wants one.
    pub(crate) fn auth(&self) -> Option<&Arc<Auth>> {
        match self {
            Self::Http { auth, .. } => auth.as_ref(),
            Self::Stdio { .. } => None,
        }
    }
}

/// Who shares a connection.
///
/// A server of the `initialize` era that may ask people or models gets a connection for each run unless told otherwise: what
/// it pushes over a shared pipe belongs to no call. So does one that may call tools: its token is then one run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// All runs.
    Shared,
    /// Each run has its own.
    PerRun,
}

/// Whether a server is granted something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// No.
    #[default]
    Deny,
    /// After a person has agreed, once a run.
    Ask,
    /// Yes.
    Allow,
}

impl Consent {
    /// Whether it can come to a yes.
    pub fn granted(self) -> bool {
        self != Self::Deny
    }
}

/// Bounds of one connection. Over HTTP, where a server says nothing while it starts, only [`Limits::start`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a server may take to start, which ends with the handshake. A process that writes to its standard error shows
    /// that it is getting on (one that is compiled or downloaded first, say), and the time starts anew.
    pub start: Duration,
    /// How long it may take at most, whatever it writes.
    pub longest_start: Duration,
    /// The longest message, in bytes. Over HTTP, JSON bodies are bounded by 16 MiB in any case.
    pub message: usize,
    /// How long a server of unknown era may think about `server/discover` before `initialize` is tried as well. Over stdio
    /// this starts when it has read the question.
    pub probe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            longest_start: Duration::from_secs(600),
            message: 16 * 1024 * 1024,
            probe: Duration::from_secs(3),
        }
    }
}

/// Whether `text` is what `glob` describes: `*` stands for any run of characters, `?` for any one.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    // Where to go on when a match fails: after the last `*`, one character further.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else { return false };
                retry = Some((after_star, from + 1));
                (g, t) = (after_star, from + 1);
            }
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn globs() {
        for (glob, text, yes) in [
            ("search", "search", true),
            ("search", "searches", false),
            ("fetch_*", "fetch_page", true),
            ("fetch_*", "fetch", false),
            ("*", "", true),
            ("*_file", "read_text_file", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("re?d", "read", true),
            ("re?d", "red", false),
        ] {
            assert_eq!(matches(glob, text), yes, "{glob} {text}");
        }
    }

    #[test]
    fn secrets_do_not_come_back() {
        let mut config =
            ServerConfig::new("x", Transport::Http { url: "http://localhost".into(), headers: Vec::new(), auth: None });
        config.secrets = vec!["s3cr3t-t0ken".into(), "abc".into()];
        assert_eq!(config.redact("bad token s3cr3t-t0ken!"), "bad token ***!");
        let mut value = json!({ "a": ["Bearer s3cr3t-t0ken", "abc", 1], "b": { "c": "s3cr3t-t0ken" } });
        config.redact_all(&mut value);
        assert_eq!(value, json!({ "a": ["Bearer ***", "abc", 1], "b": { "c": "***" } }));
    }
}
