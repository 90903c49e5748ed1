//! Asking whether commands found in files may run.

use dialoguer::Confirm;
use dialoguer::console::Term;

use crate::fault::Fault;
use crate::trust::CommandLine;

/// Shows the commands and asks once for all of them.
pub fn to_commands(lines: &[CommandLine]) -> Result<bool, Fault> {
    let term = Term::stderr();
    let ask = || -> dialoguer::Result<bool> {
        term.write_line("These files want to start commands that you have not agreed to yet:")?;
        for line in lines {
            term.write_line(&format!("  {} ({}): {}", line.server, line.path, line.shown))?;
        }
        Confirm::new().with_prompt("Start them, now and from now on?").default(false).interact_on(&term)
    };
    ask().map_err(|e| Fault::internal(format!("can't ask on this terminal: {e}")))
}
