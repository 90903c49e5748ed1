//! What a caller may use: everything, or what the scopes of its token open.

use std::sync::Arc;

use antiphon_engine::Owner;
use antiphon_kernel::fits;

/// Who sends a request, and what it may use.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) owner: Owner,
    pub(crate) access: Access,
}

/// What may be used. What may not is to its holder as if it were not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Access(Option<Arc<[String]>>);

impl Access {
    /// All that there is.
    pub(crate) fn everything() -> Self {
        Self(None)
    }

    /// What these patterns fit: workflows and agents by name, and `SERVER.NAME` of what is passed through.
    pub(crate) fn to<'a>(patterns: impl IntoIterator<Item = &'a String>) -> Self {
        Self(Some(patterns.into_iter().cloned().collect()))
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it opens the workflow or agent of this name, or this `SERVER.NAME`.
    pub(crate) fn opens(&self, name: &str) -> bool {
        match name.split_once('.') {
            Some((server, own)) => self.of_server(server).is_none_or(|patterns| patterns.iter().any(|p| fits(p, own))),
            None => self.0.as_ref().is_none_or(|all| all.iter().any(|p| !p.contains('.') && fits(p, name))),
        }
    }

    /// The patterns of a server's own names that it opens; `None` is all.
    pub(crate) fn of_server(&self, server: &str) -> Option<Vec<String>> {
        let split = self.0.as_ref()?.iter().filter_map(|pattern| pattern.split_once('.'));
        Some(split.filter(|(named, _)| fits(named, server)).map(|(_, own)| own.to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_open_what_they_fit_and_nothing_else() {
        let access = Access::to(&["files.read_*".to_owned(), "brief".to_owned(), "*.ping".to_owned()]);
        for open in ["files.read_it", "brief", "ci.ping"] {
            assert!(access.opens(open), "{open}");
        }
        for closed in ["files.write_it", "briefs", "files", "ci.read_it", "ping"] {
            assert!(!access.opens(closed), "{closed}");
        }
        assert_eq!(access.of_server("files"), Some(vec!["read_*".to_owned(), "ping".to_owned()]));
        // A name alone is never a server's.
        assert!(!Access::to(&["*".to_owned()]).opens("files.read_it"));
        assert!(!Access::to(&[]).opens("brief"));
        assert!(Access::everything().opens("files.write_it"));
    }
}
