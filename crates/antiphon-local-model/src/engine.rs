//! A model on a thread of its own, and those who wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use antiphon_models::Progress;
use tokio::sync::oneshot;

use crate::queue::{Queue, Refusal};
use crate::session::{Listener, Order, Session, Written};
use crate::template::{Template, Turn};
use crate::threads;
use crate::vocabulary::Vocabulary;

/// So many can wait for the model.
const WAITING: usize = 256;

/// A loaded model. Its thread ends with it, after what it is at.
pub(crate) struct Engine {
    queue: Arc<Queue<Job>>,
    vocabulary: Arc<Vocabulary>,
    template: Template,
    context: usize,
}

/// What the model made of an order.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) written: Written,
    /// How long others were served first.
    pub(crate) waited: Duration,
}

/// Why the model made nothing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("is busy: {0} requests wait for it")]
    Busy(usize),
    #[error("has ended")]
    Ended,
    #[error("failed: {0}")]
    Failed(String),
}

struct Job {
    order: Order,
    sent: Instant,
    progress: Progress,
    /// Dropped by whoever does not want the answer any more.
    reply: oneshot::Sender<Result<Answered, String>>,
}

impl Listener for Job {
    fn listening(&self) -> bool {
        !self.reply.is_closed()
    }

    fn heard(&self, tokens: usize) {
        self.progress.report(tokens as u64);
    }
}

impl Engine {
    /// Loads a model from its file. Takes seconds.
    ///
    /// # Errors
    /// Why it can't be, as a clause for people.
    pub(crate) async fn load(path: PathBuf) -> Result<Self, String> {
        let (tell, told) = oneshot::channel();
        let queue = Arc::new(Queue::new(WAITING));
        let served = queue.clone();
        let thread = thread::Builder::new().name("local-model".to_owned()).spawn(move || {
            let began = Instant::now();
            let mut session = match load(&path) {
                Ok((session, template)) => {
                    tracing::debug!(file = %path.display(), took = ?began.elapsed(), "the local model is loaded");
                    if tell.send(Ok((session.vocabulary().clone(), template, session.context()))).is_err() {
                        return;
                    }
                    session
                }
                Err(why) => return drop(tell.send(Err(format!("{}: {why}", path.display())))),
            };
            // What candle does outside its own threads it does on those of the pool that it is called in.
            let mut serve_all = || {
                while let Some(job) = served.pop() {
                    serve(&mut session, job);
                }
            };
            match rayon::ThreadPoolBuilder::new().num_threads(threads::settled()).build() {
                Ok(pool) => pool.install(serve_all),
                Err(_) => serve_all(),
            }
        });
        thread.map_err(|error| format!("no thread for the local model: {error}"))?;
        let loaded = told.await.unwrap_or_else(|_| Err("the file can't be used: loading it failed".to_owned()));
        let (vocabulary, template, context) = loaded?;
        Ok(Self { queue, vocabulary, template, context })
    }

    /// How many tokens prompt and answer may have together.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// The tokens of a conversation.
    ///
    /// # Errors
    /// The model's template refuses it, as a clause for people.
    pub(crate) fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>, String> {
        let rendered = self.template.render(turns)?;
        self.vocabulary.encode(rendered.parts()).map_err(|error| error.to_string())
    }

    /// Waits for its turn among the askers, and then for the answer. Dropped, it ends the work between two tokens.
    pub(crate) async fn write(
        &self,
        asker: &Arc<str>,
        order: Order,
        progress: Progress,
    ) -> Result<Answered, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let job = Job { order, sent: Instant::now(), progress, reply };
        self.queue.push(asker, job, |job| !job.listening()).map_err(|refusal| match refusal {
            Refusal::Full(waiting) => Unanswered::Busy(waiting),
            Refusal::Closed => Unanswered::Ended,
        })?;
        answer.await.map_err(|_| Unanswered::Ended)?.map_err(Unanswered::Failed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn load(path: &std::path::Path) -> Result<(Session, Template), String> {
    let (session, file) = Session::load(path).map_err(|error| error.to_string())?;
    let template = Template::load(&file, session.vocabulary())?;
    Ok((session, template))
}

fn serve(session: &mut Session, job: Job) {
    if !job.listening() {
        return;
    }
    let waited = job.sent.elapsed();
    // A library that panics must not take the model from everybody else.
    let written = catch_unwind(AssertUnwindSafe(|| session.write(&job.order, &job)));
    let reply = match written {
        Ok(Ok(Some(written))) => Ok(Answered { written, waited }),
        // Nobody wants it any more.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it panicked; its thread goes on".to_owned()),
    };
    drop(job.reply.send(reply));
}
