//! The one MCP server that callers see: workflows as tools, runs as tasks, questions as elicitations, in both of the
//! protocol's eras, over stdio, sockets and HTTP. The only part that speaks to callers; how steps run is not known here.

mod access;
mod back;
mod call;
mod caller;
mod capabilities;
mod catalog;
mod connection;
mod control;
mod errors;
mod handle;
mod http;
mod lines;
mod models;
mod outcome;
mod page;
mod pass;
mod progress;
mod prompt;
mod push;
mod question;
mod runs;
mod sampling;
mod schema;
mod seal;
mod server;
mod stream;
mod task;
mod told;
mod under_way;

/// The longest message that is taken, in bytes, through any door.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

pub use back::{ToolDoor, serve_back};
pub use catalog::{Beside, Catalog, CatalogError, Exposed, RESERVED_NAMES, TaskMode, TaskPolicy};
pub use control::{Control, ControlError};
pub use http::{Auth, HttpOptions, Token};
pub use models::{ModelDoor, ModelRefusal, serve_models};
pub use pass::{Exposure, Pass, Retold, Upstreams};
pub use server::{Server, ServerOptions};
pub use stream::ServeError;
