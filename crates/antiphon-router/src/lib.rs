//! Where the calls of runs go: to servers and models, by the names that plans use.
//!
//! [`Router`] is the engine's [`Effects`](antiphon_engine::Effects). It knows the servers and models of a project, late bound
//! and replaceable, and turns what they answer into what runs record.

mod choice;
mod effects;
mod policy;
mod record;
mod router;
mod sample;
mod sampling;
mod tools;

pub use antiphon_client::{
    Catalogue, ClientError, Consent, Era, Limits, ServerConfig, Session, State, Tool, Transport,
};
pub use choice::{Choice, Considered, Wish, choose};
pub use policy::SamplingPolicy;
pub use router::{Router, ServerCatalogue};
