//! Runs as resources: whoever started them can list, read and watch them with any MCP host.
//!
//! | URI | is |
//! |---|---|
//! | `antiphon://runs` | the newest runs; `?cursor=…` leads on |
//! | `antiphon://runs/ID` | how a run stands |
//! | `antiphon://runs/ID/timeline` | what happened in it, and when |
//! | `antiphon://runs/ID/output` | its output, when it has succeeded |
//! | `antiphon://runs/ID/graph` | its steps as a Mermaid flowchart, with the state of each |

mod graph;
mod read;
mod watch;

use antiphon_engine::{EngineError, Filter, Owner, Page, Run};
use antiphon_kernel::RunStatus;
use chrono::{DateTime, SecondsFormat, Utc};
use rmcp::ErrorData;
use rmcp::model::{Annotations, CompletionInfo, Resource, ResourceTemplate};

pub(crate) use self::read::read;
pub(crate) use self::watch::{begun, watch};
use crate::server::Shared;
use crate::{errors, outcome, page};

/// The list, and what the URIs of all runs begin with.
pub(crate) const LIST: &str = "antiphon://runs";

/// So many runs are on a page.
const PAGE: usize = 50;

/// Hosts ask for a list to its end: it has this many pages at most. Older runs are found by their ids, and by `antiphon://runs`.
const PAGES: usize = 4;

const JSON: &str = "application/json";
const MERMAID: &str = "text/vnd.mermaid";

/// What a URI of ours names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The list, from this cursor on.
    List(Option<String>),
    /// A run, or a part of what it shows.
    Run { id: String, part: Part },
}

/// A part of what a run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    State,
    Timeline,
    Output,
    Graph,
}

impl Part {
    /// The last part of the URI, and what stands there.
    const ALL: [(Self, &str, &str, &str); 4] = [
        (Self::State, "", JSON, "How a run stands: its steps, what it needs, its output or error"),
        (Self::Timeline, "/timeline", JSON, "What happened in a run, and when"),
        (Self::Output, "/output", JSON, "The output of a run that has succeeded"),
        (Self::Graph, "/graph", MERMAID, "The steps of a run as a Mermaid flowchart, with the state of each"),
    ];
}

impl Named {
    /// Reads a URI; `None` if it is none of ours.
    pub(crate) fn of(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix(LIST)?;
        if rest.is_empty() {
            return Some(Self::List(None));
        }
        if let Some(cursor) = rest.strip_prefix("?cursor=") {
            return Some(Self::List(Some(cursor.to_owned())));
        }
        let rest = rest.strip_prefix('/')?;
        let (id, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (part, ..) = Part::ALL.iter().find(|(_, last, ..)| *last == tail)?;
        (!id.is_empty()).then(|| Self::Run { id: id.to_owned(), part: *part })
    }
}

/// Whether it is ours, whatever it names.
pub(crate) fn is_ours(uri: &str) -> bool {
    uri.strip_prefix(LIST).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '{']))
}

/// A page of `resources/list`: the list itself, then runs, newest first; and the cursor of the next page.
pub(crate) async fn list(
    shared: &Shared,
    owner: &Owner,
    cursor: Option<&str>,
) -> Result<(Vec<Resource>, Option<String>), ErrorData> {
    // How many pages came before, and where the engine goes on.
    let (before, from) = match cursor {
        None => (0, None),
        Some(cursor) => {
            let parts = cursor.split_once('.').and_then(|(before, from)| Some((before.parse().ok()?, from)));
            let (before, from): (usize, &str) = parts.ok_or_else(|| page::unknown(cursor))?;
            (before, Some(from.to_owned()))
        }
    };
    let Page { runs, next } = newest(shared, owner, from).await.map_err(errors::of_task)?;
    let mut resources = Vec::with_capacity(runs.len() + 1);
    if before == 0 {
        let list = Resource::new(LIST, "runs").with_title("Runs").with_mime_type(JSON);
        resources.push(list.with_description("Your runs, newest first"));
    }
    resources.extend(runs.iter().map(resource));
    let more = next.filter(|_| before + 1 < PAGES);
    Ok((resources, more.map(|next| format!("{}.{next}", before + 1))))
}

/// A page of an owner's runs. Who has no name has no list: only ids that nobody can guess.
async fn newest(shared: &Shared, owner: &Owner, cursor: Option<String>) -> Result<Page, EngineError> {
    if owner.is_anonymous() {
        return Ok(Page { runs: Vec::new(), next: None });
    }
    let filter = Filter { owner: Some(owner.clone()), ..Filter::default() };
    shared.engine.list(filter, cursor, PAGE).await
}

fn resource(run: &Run) -> Resource {
    let resource = Resource::new(uri(run), run.id.to_string())
        .with_title(format!("{}: {}", run.workflow, status(run.view.status)))
        .with_description(outcome::headline(run))
        .with_mime_type(JSON);
    match moment(run.updated_at) {
        Some(at) => resource.with_annotations(Annotations::default().with_timestamp(at)),
        None => resource,
    }
}

/// `resources/templates/list`.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let list = ResourceTemplate::new(format!("{LIST}{{?cursor}}"), "runs");
    let list = list.with_title("Runs").with_description("Runs, newest first, 50 at a time").with_mime_type(JSON);
    let parts = Part::ALL.iter().map(|(_, tail, mime, about)| {
        let name = format!("run{}", tail.replace('/', "-"));
        ResourceTemplate::new(format!("{LIST}/{{id}}{tail}"), name).with_description(*about).with_mime_type(*mime)
    });
    std::iter::once(list).chain(parts).collect()
}

/// Ids of runs that begin like this, newest first.
pub(crate) async fn complete(shared: &Shared, owner: &Owner, begun: &str) -> Result<CompletionInfo, ErrorData> {
    if owner.is_anonymous() {
        return Ok(CompletionInfo::default());
    }
    let filter = Filter { owner: Some(owner.clone()), id_prefix: Some(begun.to_owned()), ..Filter::default() };
    let found = shared.engine.list(filter, None, CompletionInfo::MAX_VALUES).await.map_err(errors::of_task)?;
    let ids = found.runs.iter().map(|run| run.id.to_string()).collect();
    CompletionInfo::with_pagination(ids, None, found.next.is_some())
        .map_err(|message| ErrorData::internal_error(message, None))
}

fn uri(run: &Run) -> String {
    format!("{LIST}/{}", run.id)
}

fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Working => "working",
        RunStatus::InputRequired => "needs an answer",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

fn moment(ms: u64) -> Option<DateTime<Utc>> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis)
}

/// RFC 3339, in UTC.
fn timestamp(ms: u64) -> Option<String> {
    moment(ms).map(|moment| moment.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read() {
        let run = |part| Some(Named::Run { id: "7".to_owned(), part });
        assert_eq!(Named::of("antiphon://runs"), Some(Named::List(None)));
        assert_eq!(Named::of("antiphon://runs?cursor=9"), Some(Named::List(Some("9".to_owned()))));
        assert_eq!(Named::of("antiphon://runs/7"), run(Part::State));
        assert_eq!(Named::of("antiphon://runs/7/timeline"), run(Part::Timeline));
        assert_eq!(Named::of("antiphon://runs/7/output"), run(Part::Output));
        assert_eq!(Named::of("antiphon://runs/7/graph"), run(Part::Graph));
        for other in
            ["antiphon://runs/", "antiphon://runs/7/other", "antiphon://runsx", "file:///runs", "antiphon://runs/7/"]
        {
            assert_eq!(Named::of(other), None, "{other}");
        }
        assert!(is_ours("antiphon://runs/{id}/graph") && is_ours("antiphon://runs{?cursor}"));
        assert!(!is_ours("antiphon://runsx"));
    }
}
