//! Tools' names on the wire: MCP allows more characters, and longer names, than these servers do.

use std::collections::BTreeSet;

use crate::{SampleRequest, ToolSpec};

/// The longest name that is taken everywhere, in bytes.
const LONGEST: usize = 64;

/// The names of a request's tools, one each.
pub(super) struct Names<'a> {
    pairs: Vec<(&'a str, String)>,
}

impl<'a> Names<'a> {
    pub(super) fn of(request: &'a SampleRequest) -> Self {
        let mut taken = BTreeSet::new();
        let mut named = |tool: &'a ToolSpec| {
            let plain = plain(&tool.name);
            let numbered = (2..).map(|number: u32| {
                let end = format!("_{number}");
                format!("{}{end}", &plain[..plain.len().min(LONGEST - end.len())])
            });
            let mut candidates = std::iter::once(plain.clone()).chain(numbered);
            let free = candidates.find(|name| taken.insert(name.clone())).unwrap_or_default();
            (tool.name.as_str(), free)
        };
        Self { pairs: request.tools.iter().map(&mut named).collect() }
    }

    /// A tool as it is sent. Conversations may mention tools that are not offered any more.
    pub(super) fn sent(&self, name: &str) -> String {
        self.pairs.iter().find(|(own, _)| *own == name).map_or_else(|| plain(name), |(_, sent)| sent.clone())
    }

    /// The tool that a model calls so.
    pub(super) fn own(&self, sent: &str) -> String {
        self.pairs.iter().find(|(_, name)| name == sent).map_or(sent, |(own, _)| own).to_owned()
    }
}

fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    name.chars().map(plain).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_tool_has_a_name_that_servers_take() {
        let long = "x".repeat(80);
        let tool = |name: &str| ToolSpec { name: name.into(), description: None, input_schema: json!({}) };
        let tools =
            vec![tool("files.read"), tool("files/read"), tool("files_read"), tool(&long), tool(&format!("{long}y"))];
        let request = SampleRequest { tools, ..SampleRequest::text("?") };
        let names = Names::of(&request);
        let sent: Vec<String> = request.tools.iter().map(|tool| names.sent(&tool.name)).collect();
        assert_eq!(sent[..3], ["files_read", "files_read_2", "files_read_3"]);
        assert_eq!((sent[3].len(), sent[4].len()), (64, 64));
        for (tool, sent) in request.tools.iter().zip(&sent) {
            assert_eq!(names.own(sent), tool.name);
        }
        assert_eq!((names.sent("gone.by"), names.own("gone_by")), ("gone_by".to_owned(), "gone_by".to_owned()));
    }
}
