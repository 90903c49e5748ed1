//! The live view of a run: one line a step, redrawn in place.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use antiphon_engine::Progress;
use antiphon_kernel::{RunView, StepPhase, StepView};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::time::{now_ms, span};

/// How many steps inside blocks, iterations and nested workflows are shown at a time.
const MAX_INNER: usize = 8;

/// Where the lines are: standard error. There is one terminal, so there is one of these.
static AREA: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Standard error for whoever logs: what is written goes above the live lines.
pub struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        AREA.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar below the live lines; none where there is no terminal.
#[cfg(feature = "local-model")]
pub fn bar(length: u64, style: ProgressStyle) -> Option<ProgressBar> {
    (!AREA.is_hidden()).then(|| AREA.add(ProgressBar::new(length).with_style(style)))
}

/// Does something while no live line is on the screen.
#[cfg(feature = "local-model")]
pub fn above(write: impl FnOnce()) {
    AREA.suspend(write);
}

/// A run on the terminal (standard error). Invisible when that is none.
pub struct Live {
    lines: BTreeMap<String, ProgressBar>,
    progress: BTreeMap<String, Progress>,
    last: Option<RunView>,
}

impl Live {
    /// An empty view.
    pub fn new() -> Self {
        Self { lines: BTreeMap::new(), progress: BTreeMap::new(), last: None }
    }

    /// Takes a progress report of a call in flight.
    pub fn report(&mut self, progress: Progress) {
        self.progress.insert(progress.path.clone(), progress);
    }

    /// Shows the run as it stands.
    pub fn show(&mut self, view: &RunView) {
        self.draw(view);
        self.last = Some(view.clone());
    }

    /// Shows it again: times have gone on.
    pub fn redraw(&mut self) {
        if let Some(view) = self.last.take() {
            self.draw(&view);
            self.last = Some(view);
        }
    }

    fn draw(&mut self, view: &RunView) {
        if AREA.is_hidden() {
            return;
        }
        let shown = visible(view);
        self.lines.retain(|path, line| {
            let keep = shown.iter().any(|step| step.path == *path);
            if !keep {
                AREA.remove(line);
            }
            keep
        });
        for (place, step) in shown.into_iter().enumerate() {
            let line = self.lines.entry(step.path.clone()).or_insert_with(|| {
                let line = AREA.insert(place, ProgressBar::new_spinner());
                line.set_style(style());
                line
            });
            let text = describe(step, self.progress.get(&step.path));
            if line.message() != text {
                line.set_message(text);
            }
        }
    }

    /// Takes the lines off the screen, which somebody else needs, until [`Live::come_back`].
    pub fn leave(&self) {
        // A terminal that can't be written to shows nothing in any case.
        let _ = AREA.clear();
        AREA.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Shows the lines again.
    pub fn come_back(&self) {
        AREA.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// Leaves the lines on the screen as they are.
    pub fn finish(&self) {
        for line in self.lines.values() {
            line.abandon();
        }
        if !self.lines.is_empty() {
            // They end without a newline.
            super::note(format_args!(""));
        }
    }
}

fn style() -> ProgressStyle {
    // `wide_msg` cuts a line that is too long instead of wrapping it.
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// The top level, and of what is inside only what is going on.
fn visible(view: &RunView) -> Vec<&StepView> {
    let mut inner = 0;
    view.steps
        .iter()
        .filter(|step| {
            if !step.path.contains(['/', '[', ':']) {
                return true;
            }
            let active = is_active(step.status);
            inner += usize::from(active);
            active && inner <= MAX_INNER
        })
        .collect()
}

fn is_active(phase: StepPhase) -> bool {
    matches!(phase, StepPhase::Running | StepPhase::Asking | StepPhase::Waiting | StepPhase::Polling)
}

/// One line: mark, path, and what there is to say.
fn describe(step: &StepView, progress: Option<&Progress>) -> String {
    let mut line = format!("{} {:<24}", mark(step.status), step.path);
    let mut say = |text: String| {
        line.push_str("  ");
        line.push_str(&text);
    };
    match step.status {
        StepPhase::Pending => {}
        StepPhase::Asking => say("waits for an answer".into()),
        StepPhase::Waiting => say("waits".into()),
        StepPhase::Polling => say("polls".into()),
        _ => {}
    }
    if let Some((done, all)) = step.items {
        say(format!("{done}/{all}"));
    }
    if step.attempt > 1 {
        say(format!("attempt {}", step.attempt));
    }
    if let Some(started) = step.started_at {
        let end = step.ended_at.unwrap_or_else(now_ms);
        say(span(Duration::from_millis(end.saturating_sub(started))));
    }
    if let Some(error) = &step.error {
        say(format!("{}: {}", error.kind.as_str(), first_line(&error.message)));
    } else if let Some(note) = &step.note {
        say(first_line(note).to_owned());
    } else if let Some(progress) = progress.filter(|_| is_active(step.status)) {
        if let Some(total) = progress.total.filter(|total| *total > 0.0) {
            say(format!("{:.0}%", progress.progress / total * 100.0));
        }
        if let Some(message) = &progress.message {
            say(first_line(message).to_owned());
        }
    }
    line.trim_end().to_owned()
}

fn mark(phase: StepPhase) -> char {
    match phase {
        StepPhase::Pending => '·',
        StepPhase::Running => '▸',
        StepPhase::Asking => '?',
        StepPhase::Waiting | StepPhase::Polling => '…',
        StepPhase::Succeeded => '✓',
        StepPhase::Skipped => '-',
        StepPhase::Failed => '✗',
        StepPhase::Cancelled => '×',
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
