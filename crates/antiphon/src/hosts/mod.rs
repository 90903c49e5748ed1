//! The files in which MCP hosts keep their servers: reading them, and writing Antiphon into them.
//!
//! Data flows one way: a file's text (`file`) becomes a value (`json`, `yaml`); its servers (`found`) become our tables
//! (`translate`, `project_file`). The other way an `entry` is put into the text, and nothing else of it changes.

pub mod diff;
pub mod entry;
pub mod file;
pub mod found;
mod json;
mod needs;
mod place;
pub mod project_file;
pub mod secret;
mod text;
pub mod translate;
mod yaml;

use clap::ValueEnum;

pub use needs::{Needs, Origin};
pub use place::{Dirs, Scope, of_project};

/// A program that uses MCP servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// Claude Desktop
    ClaudeDesktop,
    /// Claude Code
    ClaudeCode,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    #[value(name = "vscode", alias = "vs-code")]
    VsCode,
    /// Windsurf
    Windsurf,
    /// Zed
    Zed,
    /// Goose
    Goose,
}

impl Host {
    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::VsCode => "VS Code",
            Self::Windsurf => "Windsurf",
            Self::Zed => "Zed",
            Self::Goose => "Goose",
        }
    }

    /// Its word on the command line.
    pub fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The key below which its file has its servers.
    pub fn key(self) -> &'static str {
        match self {
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor | Self::Windsurf => "mcpServers",
            Self::VsCode => "servers",
            Self::Zed => "context_servers",
            Self::Goose => "extensions",
        }
    }

    /// How its file is written.
    pub fn syntax(self) -> Syntax {
        match self {
            Self::Goose => Syntax::Yaml,
            _ => Syntax::Json,
        }
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// JSON; comments and trailing commas are let pass, as VS Code and Zed do.
    Json,
    /// YAML.
    Yaml,
}
