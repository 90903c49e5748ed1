//! Where hosts keep their files, as their own documentation has it: Claude Code "Connect to tools via MCP", Cursor "Model Context
//! Protocol", VS Code "MCP configuration reference", Windsurf "Cascade MCP integration", Zed "Model Context Protocol", Goose
//! "Configuration files".

use std::path::{Path, PathBuf};

use super::Host;
use crate::fault::Fault;

/// Whom a host's file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that this user opens.
    User,
    /// One project.
    Project,
}

/// This user's folders.
#[derive(Clone, Debug)]
pub struct Dirs {
    home: PathBuf,
    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    config: PathBuf,
    /// Where programs with windows have their settings: `~/Library/Application Support` on macOS, else `config`.
    support: PathBuf,
    /// `$CLAUDE_CONFIG_DIR`, which moves `~/.claude.json`.
    claude: Option<PathBuf>,
}

impl Dirs {
    /// As the environment has them.
    pub fn here() -> Result<Self, Fault> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME")
            .ok_or_else(|| Fault::usage("HOME is not set, so hosts' files can't be found", "name a file instead"))?;
        let config = folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let support = match cfg!(target_os = "macos") {
            true => home.join("Library/Application Support"),
            false => config.clone(),
        };
        Ok(Self { home, config, support, claude: folder("CLAUDE_CONFIG_DIR") })
    }

    /// The file of a host for this user.
    pub fn user(&self, host: Host) -> PathBuf {
        match host {
            Host::ClaudeDesktop => self.support.join("Claude/claude_desktop_config.json"),
            Host::ClaudeCode => self.claude.as_ref().unwrap_or(&self.home).join(".claude.json"),
            Host::Cursor => self.home.join(".cursor/mcp.json"),
            Host::VsCode => self.support.join("Code/User/mcp.json"),
            Host::Windsurf => self.home.join(".codeium/windsurf/mcp_config.json"),
            Host::Zed if cfg!(target_os = "macos") => self.home.join(".config/zed/settings.json"),
            Host::Zed => self.config.join("zed/settings.json"),
            Host::Goose => self.config.join("goose/config.yaml"),
        }
    }
}

/// The file of a host in a project's folder, for hosts that have one.
pub fn of_project(host: Host, root: &Path) -> Option<PathBuf> {
    let path = match host {
        Host::ClaudeDesktop | Host::Windsurf | Host::Goose => return None,
        Host::ClaudeCode => ".mcp.json",
        Host::Cursor => ".cursor/mcp.json",
        Host::VsCode => ".vscode/mcp.json",
        Host::Zed => ".zed/settings.json",
    };
    Some(root.join(path))
}
