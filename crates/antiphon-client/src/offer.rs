//! What a caller's answers come to on a connection that is told once: a few bits, so that there are never many connections.

use rmcp::model::{
    ClientCapabilities, ElicitationCapability, FormElicitationCapability, JsonObject, RootsCapabilities,
    SamplingCapability, UrlElicitationCapability,
};

/// What can be offered to a server of the `initialize` era.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    form: bool,
    url: bool,
    sampling: bool,
    sampling_tools: bool,
    roots: bool,
}

impl Offer {
    pub(crate) fn of(capabilities: &ClientCapabilities) -> Self {
        let elicitation = capabilities.elicitation.as_ref();
        let url = elicitation.is_some_and(|modes| modes.url.is_some());
        Self {
            // `elicitation: {}` is what clients said before there were modes.
            form: elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none()),
            url,
            sampling: capabilities.sampling.is_some(),
            sampling_tools: capabilities.sampling.as_ref().is_some_and(|sampling| sampling.tools.is_some()),
            roots: capabilities.roots.is_some(),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Tells offers apart.
    pub(crate) fn key(self) -> String {
        let bits = [self.form, self.url, self.sampling, self.sampling_tools, self.roots];
        bits.iter().map(|bit| if *bit { '1' } else { '0' }).collect()
    }

    pub(crate) fn capabilities(self) -> ClientCapabilities {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = (self.form || self.url).then(|| {
            let mut modes = ElicitationCapability::new();
            modes.form = self.form.then(FormElicitationCapability::new);
            modes.url = self.url.then(UrlElicitationCapability::new);
            modes
        });
        capabilities.sampling = self.sampling.then(|| {
            let mut sampling = SamplingCapability::default();
            sampling.tools = self.sampling_tools.then(JsonObject::new);
            sampling
        });
        capabilities.roots = self.roots.then(RootsCapabilities::default);
        capabilities
    }
}
