//! Antiphon as a server of a host: the entry in the host's file.

use serde_json::{Map, Value, json};

use super::file::Text;
use super::{Host, Syntax, json, yaml};

/// A server that the host starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub name: String,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Entry {
    /// As the host spells it. Nothing but what is needed: hosts write the rest themselves.
    pub fn value(&self, host: Host) -> Value {
        let (command, args) = (&self.command, &self.args);
        match host {
            Host::ClaudeDesktop | Host::Cursor | Host::Windsurf | Host::Zed => {
                json!({ "command": command, "args": args })
            }
            Host::ClaudeCode | Host::VsCode => json!({ "type": "stdio", "command": command, "args": args }),
            // `enabled`, `type`, `name`, `cmd` and `args` have no defaults there; the timeout is in seconds.
            Host::Goose => json!({
                "enabled": true,
                "type": "stdio",
                "name": self.name,
                "description": "Workflows of MCP agents",
                "cmd": command,
                "args": args,
                "timeout": 300,
            }),
        }
    }

    /// A file of the host with this server alone.
    pub fn block(&self, host: Host) -> String {
        let block = self.put(host, &Text::empty(), &self.value(host));
        block.unwrap_or_default().trim_end().to_owned()
    }

    /// What stands there now, if anything.
    pub fn present(&self, host: Host, text: &Text) -> Option<Value> {
        text.value.get(host.key())?.get(&self.name).cloned()
    }

    /// The text with this server in it, in place of one of that name.
    pub fn put(&self, host: Host, text: &Text, value: &Value) -> Option<String> {
        let changed = match host.syntax() {
            Syntax::Json => json::put(&text.text, host.key(), &self.name, value),
            Syntax::Yaml => yaml::put(&text.text, host.key(), &self.name, value),
        }?;
        let mut wanted = text.value.clone();
        let servers = in_place(&mut wanted).entry(host.key()).or_insert(Value::Null);
        in_place(servers).insert(self.name.clone(), value.clone());
        says(host, &changed, &wanted).then_some(changed)
    }

    /// The text without it.
    pub fn taken_out(&self, host: Host, text: &Text) -> Option<String> {
        let changed = match host.syntax() {
            Syntax::Json => json::take(&text.text, host.key(), &self.name),
            Syntax::Yaml => yaml::take(&text.text, host.key(), &self.name),
        }?;
        let mut wanted = text.value.clone();
        wanted.get_mut(host.key())?.as_object_mut()?.shift_remove(&self.name);
        says(host, &changed, &wanted).then_some(changed)
    }
}

/// A value's entries; an empty document is an empty object.
fn in_place(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(entries) => entries,
        _ => unreachable!("it has just been made one"),
    }
}

/// Whether a changed text says what it should. Asked before anything is written: whatever an editor of texts gets wrong about
/// an odd file, no host's file is broken by it.
fn says(host: Host, text: &str, wanted: &Value) -> bool {
    let value = match host.syntax() {
        Syntax::Json => json::parse(text),
        Syntax::Yaml => yaml::parse(text),
    };
    value.is_ok_and(|value| value == *wanted)
}
