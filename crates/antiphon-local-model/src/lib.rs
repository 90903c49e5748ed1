//! The embedded model: a language model in this process, that needs no key, no server and no compiler of another language.
//!
//! [`LocalModel`] is a [`Model`](antiphon_models::Model) like the others. Its weights are a GGUF file: one of the
//! [`CATALOGUE`], kept in a [`Store`] and fetched when they are first needed, or any other of a known family. It answers on a
//! thread of its own, one request at a time, askers in turn ([`on_behalf_of`]).

mod asker;
mod attention;
mod catalogue;
mod engine;
mod fused;
mod grammar;
mod kv;
mod linear;
mod model;
mod network;
#[cfg_attr(not(target_arch = "x86_64"), path = "packed/elsewhere.rs")]
mod packed;
mod protocol;
mod queue;
mod sampler;
mod session;
mod slots;
mod speed;
mod store;
mod template;
mod threads;
mod vocabulary;
mod weights;

pub use asker::on_behalf_of;
pub use catalogue::{CATALOGUE, DEFAULT, Entry, find};
pub use model::{LocalModel, Weights};
pub use speed::{Meter, Speed};
pub use store::{FetchError, Fetching, Store, Watch, names, size};
pub use threads::settle;
