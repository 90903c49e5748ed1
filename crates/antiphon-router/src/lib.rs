//! Where the calls of runs go: to servers and models, by the names that plans use.
//!
//! [`Router`] is the engine's [`Effects`](antiphon_engine::Effects). It knows the servers and models of a project, late bound
//! and replaceable, and turns what they answer into what runs record.

mod back;
mod choice;
mod effects;
mod policy;
mod record;
mod router;
mod sample;
mod sampling;
mod tools;

pub use antiphon_client::{
    Catalogue, ClientError, Consent, Era, Guest, Limits, Refused, ServerConfig, Session, State, Tool, Transport,
    WayBack,
};
pub use back::Unanswered;
pub use choice::{Choice, Considered, Wish, choose};
pub use policy::SamplingPolicy;
pub use router::{Router, ServerCatalogue};
