//! What SQLite reports, in words that say what to do.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::api::EngineError;

/// Explains a failure of the database at `path`.
pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> EngineError {
    let path = path.display();
    EngineError::Storage(match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("the database {path} is locked by another process: end that process, or use another database")
        }
        Some(ErrorCode::DiskFull) => {
            format!(
                "no room for the database {path}: free some space, or raise its limit; its runs go on by themselves then"
            )
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!(
                "the database {path} can't be read or written ({error}): its disk may be over a quota or a file size limit, or \
                 failing"
            )
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            format!("{path} is damaged, or no database ({error}): restore a copy, or move it out of the way")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("can't open the database {path} ({error}): its folder must exist, and both must be writable")
        }
        Some(ErrorCode::ReadOnly) => {
            format!("the database {path} can't be written: check its permissions and its folder's")
        }
        _ => format!("the database {path} failed: {error}"),
    })
}
