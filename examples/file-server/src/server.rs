//! The MCP side: four read-only tools, and each file as a resource.

use percent_encoding::percent_decode_str;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    ErrorData, ListResourceTemplatesResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, ResourceContents, ResourceTemplate, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{Json, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tree::{MAX_FILE_BYTES, Tree};

const DEFAULT_RESULTS: usize = 100;
const MAX_RESULTS: usize = 10_000;
/// How much of a matching line is shown, in characters.
const SHOWN_LINE: usize = 200;

#[derive(Clone)]
pub struct FileServer {
    tree: Tree,
    tool_router: ToolRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct ListFiles {
    /// Which files, such as `src/**/*.{rs,toml}`; all, if absent.
    glob: Option<String>,
    /// How many to name, 100 if absent; the totals count all.
    max: Option<usize>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Listing {
    /// The first of them, in the order of their paths.
    files: Vec<FileInfo>,
    /// How many there are.
    total_files: usize,
    total_bytes: u64,
    total_lines: usize,
    /// Whether there are more than `files` names.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct FileInfo {
    path: String,
    bytes: u64,
    lines: usize,
}

#[derive(Deserialize, JsonSchema)]
struct ReadTextFile {
    path: String,
    /// How much to read from the beginning; all, if absent.
    max_bytes: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct TextFileContents {
    path: String,
    text: String,
    /// The length of the whole file.
    bytes: u64,
    /// Whether `text` ends before the file does.
    truncated: bool,
}

#[derive(Deserialize, JsonSchema)]
struct Search {
    /// A regular expression in Rust's syntax, matched line by line.
    pattern: String,
    /// In which files, such as `src/**/*.rs`; in all, if absent.
    glob: Option<String>,
    /// How many matching lines to show, 100 if absent; the total counts all.
    max: Option<usize>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Matches {
    /// The first of them.
    matches: Vec<Match>,
    /// How many lines match.
    total: usize,
    /// How many files were looked into: none, if `glob` fits none.
    files: usize,
    /// Whether more lines match than `matches` shows.
    truncated: bool,
}

#[derive(Serialize, JsonSchema)]
struct Match {
    path: String,
    /// From 1.
    line: usize,
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct Counted {
    path: String,
    lines: usize,
    words: usize,
    bytes: u64,
}

#[tool_router]
impl FileServer {
    pub fn new(tree: Tree) -> Self {
        Self { tree, tool_router: Self::tool_router() }
    }

    /// Lists text files with their sizes, and adds the sizes up.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn list_files(&self, Parameters(args): Parameters<ListFiles>) -> Result<Json<Listing>, String> {
        let max = limit(args.max);
        self.blocking(move |tree| {
            let mut listing = Listing::default();
            tree.each(args.glob.as_deref(), |file| {
                let lines = file.text.lines().count();
                listing.total_files += 1;
                listing.total_bytes += file.bytes;
                listing.total_lines += lines;
                if listing.files.len() < max {
                    listing.files.push(FileInfo { path: file.path, bytes: file.bytes, lines });
                }
            })?;
            listing.truncated = listing.files.len() < listing.total_files;
            Ok(listing)
        })
        .await
    }

    /// Reads a text file.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn read_text_file(
        &self,
        Parameters(args): Parameters<ReadTextFile>,
    ) -> Result<Json<TextFileContents>, String> {
        self.blocking(move |tree| {
            let mut file = tree.read(&args.path)?;
            let end = file.text.floor_char_boundary(args.max_bytes.unwrap_or(usize::MAX));
            let truncated = end < file.text.len();
            file.text.truncate(end);
            Ok(TextFileContents { path: file.path, text: file.text, bytes: file.bytes, truncated })
        })
        .await
    }

    /// Finds the lines that match a regular expression.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn search(&self, Parameters(args): Parameters<Search>) -> Result<Json<Matches>, String> {
        let max = limit(args.max);
        let pattern = regex::Regex::new(&args.pattern).map_err(|error| format!("`pattern`: {error}"))?;
        self.blocking(move |tree| {
            let mut found = Matches::default();
            let files = tree.each(args.glob.as_deref(), |file| {
                for (index, line) in file.text.lines().enumerate().filter(|(_, line)| pattern.is_match(line)) {
                    found.total += 1;
                    if found.matches.len() < max {
                        let text = line.trim().chars().take(SHOWN_LINE).collect();
                        found.matches.push(Match { path: file.path.clone(), line: index + 1, text });
                    }
                }
            })?;
            found.files = files;
            found.truncated = found.matches.len() < found.total;
            Ok(found)
        })
        .await
    }

    /// Counts the lines, words and bytes of a text file.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    async fn count(&self, Parameters(args): Parameters<Count>) -> Result<Json<Counted>, String> {
        self.blocking(move |tree| {
            let file = tree.read(&args.path)?;
            let (lines, words) = (file.text.lines().count(), file.text.split_whitespace().count());
            Ok(Counted { path: file.path, lines, words, bytes: file.bytes })
        })
        .await
    }

    /// Files are read on a thread that may wait.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tree) -> Result<T, String> + Send + 'static,
    ) -> Result<Json<T>, String> {
        let tree = self.tree.clone();
        tokio::task::spawn_blocking(move || work(&tree)).await.map_err(|error| error.to_string())?.map(Json)
    }
}

fn limit(max: Option<usize>) -> usize {
    max.unwrap_or(DEFAULT_RESULTS).min(MAX_RESULTS)
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for FileServer {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_resources().build());
        info.server_info.name = env!("CARGO_PKG_NAME").to_owned();
        info.server_info.version = env!("CARGO_PKG_VERSION").to_owned();
        info.instructions = Some(format!(
            "Reads text files of up to {MAX_FILE_BYTES} bytes under one directory. Paths are relative to it; the resource \
             file:///src/main.rs is its src/main.rs."
        ));
        info
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new("file:///{+path}", "file").with_description("A text file under the root");
        Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let missing = |why: String| ErrorData::resource_not_found(why, Some(serde_json::json!({ "uri": uri })));
        let Some(path) = uri.strip_prefix("file:///") else {
            return Err(missing(format!("{uri}: resources here begin with file:///")));
        };
        let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
        match self.blocking(move |tree| tree.read(&path)).await {
            Ok(Json(file)) => Ok(ReadResourceResult::new(vec![ResourceContents::text(file.text, uri)]).into()),
            Err(why) => Err(missing(why)),
        }
    }
}
