//! Paths: how everything in a run is named. `draft:2/review[3]` is iteration 3 of `review` in round 2 of `draft`.

use super::state::Spot;

/// The path of the root scope.
pub(super) const ROOT: &str = "";

/// The path of a step.
pub(super) fn step(scope: &str, id: &str) -> String {
    if scope.is_empty() { id.to_owned() } else { format!("{scope}/{id}") }
}

/// The path of an iteration, without its round.
pub(super) fn iteration(spot: &Spot) -> String {
    let path = step(&spot.scope, &spot.step);
    match spot.index {
        Some(index) => format!("{path}[{index}]"),
        None => path,
    }
}

/// Whether `path` is `scope` or inside it.
pub(super) fn within(path: &str, scope: &str) -> bool {
    scope.is_empty() || path.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
