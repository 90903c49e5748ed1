//! One process owns a project's runs; every other reaches them through it, and takes its place when it is gone.

mod client;
mod desk;
mod door;
mod hub;
mod lock;
mod own;
mod relay;
mod seat;
mod socket;
mod transcript;
mod until;
pub mod verbs;

pub use self::door::{Attach, Door};
pub use self::hub::Hub;
pub use self::relay::{Link, relay};
