//! The command line.

mod answer;
mod ask;
mod call;
mod cancel;
mod check;
mod dry_run;
mod explain_route;
mod export;
mod follow;
mod graph;
mod import;
mod install;
mod login;
#[cfg(feature = "local-model")]
mod model;
mod print;
mod run;
mod runs;
mod schema;
mod serve;
mod tools;

use std::path::PathBuf;

use antiphon_engine::Run;
use clap::{Args, Parser, Subcommand};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::owner::Hub;
use crate::owner::verbs::Runs;
use crate::project::Place;
use crate::store::Store;

/// Workflows of MCP agents, written in TOML, served as one MCP server.
#[derive(Debug, Parser)]
#[command(name = "antiphon", version, after_help = Exit::help(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[cfg(feature = "local-model")]
    #[command(flatten)]
    local: crate::local::Choice,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a workflow file.
    Run(run::RunArgs),
    /// Go on with a paused run.
    Resume(run::ResumeArgs),
    /// Check workflow files: no server is started, nothing is asked.
    Check(check::CheckArgs),
    /// Draw a workflow's steps.
    Graph(graph::GraphArgs),
    /// Say which model would answer a step or a server, and why: nobody is asked.
    ExplainRoute(explain_route::ExplainArgs),
    /// Serve workflows as one MCP server.
    Serve(serve::ServeArgs),
    /// Call one tool of a server (`server.tool`), or a workflow by name.
    Call(call::CallArgs),
    /// Ask an agent.
    Ask(ask::AskArgs),
    /// List the tools of all servers.
    Tools(tools::ToolsArgs),
    /// Log in to a server that wants it (`auth` in its table), in the browser.
    Login(login::LoginArgs),
    /// Forget the login to a server.
    Logout(login::LogoutArgs),
    /// List runs.
    Runs(runs::RunsArgs),
    /// Show a run.
    Show(runs::ShowArgs),
    /// Follow a run until it ends or asks.
    Watch(run::WatchArgs),
    /// Answer a run's question.
    Answer(answer::AnswerArgs),
    /// Cancel a run: what it has done is undone where the workflow says how.
    Cancel(cancel::CancelArgs),
    /// Look after the files of local models.
    #[cfg(feature = "local-model")]
    Model(model::ModelArgs),
    /// Take over the MCP servers of another host: Claude Desktop, Claude Code, Cursor, VS Code, Windsurf, Zed, Goose.
    Import(import::ImportArgs),
    /// Put Antiphon into a host's file, or take it out again.
    Install(install::InstallArgs),
    /// Print the block that makes a host start Antiphon.
    Export(export::ExportArgs),
    /// Print the JSON Schema of a kind of file.
    Schema(schema::SchemaArgs),
}

impl Cli {
    /// Does what was asked.
    pub async fn run(self) -> Result<Exit, Fault> {
        #[cfg(feature = "local-model")]
        crate::local::choose(self.local);
        match self.verb {
            Verb::Run(args) => run::run(args).await,
            Verb::Resume(args) => run::resume(args).await,
            Verb::Check(args) => check::check(args),
            Verb::Graph(args) => graph::graph(args),
            Verb::ExplainRoute(args) => explain_route::explain_route(args).await,
            Verb::Serve(args) => serve::serve(args).await,
            Verb::Call(args) => call::call(args).await,
            Verb::Ask(args) => ask::ask(args).await,
            Verb::Tools(args) => tools::tools(args).await,
            Verb::Login(args) => login::login(args).await,
            Verb::Logout(args) => login::logout(args).await,
            Verb::Runs(args) => runs::runs(args).await,
            Verb::Show(args) => runs::show(args).await,
            Verb::Watch(args) => run::watch(args).await,
            Verb::Answer(args) => answer::answer(args).await,
            Verb::Cancel(args) => cancel::cancel(args).await,
            #[cfg(feature = "local-model")]
            Verb::Model(args) => model::model(args).await,
            Verb::Import(args) => import::import(args),
            Verb::Install(args) => install::install(args),
            Verb::Export(args) => export::export(args),
            Verb::Schema(args) => schema::schema(args),
        }
    }
}

/// Which project's runs are meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// The project: a folder, or a file in it [default: the current folder]
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
    #[command(flatten)]
    db: Db,
}

/// Where runs are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct Db {
    /// Keep runs in this database [default: one for the project, under $XDG_DATA_HOME/antiphon]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
}

impl Db {
    fn store(&self, place: &Place) -> Result<Store, Fault> {
        Store::of(&place.root, self.db.as_deref())
    }
}

impl Which {
    fn place(&self) -> Result<Place, Fault> {
        self.project.as_deref().map_or_else(Place::here, Place::of)
    }

    /// Whether the project ever had runs.
    fn has_runs(&self) -> Result<bool, Fault> {
        Ok(self.db.store(&self.place()?)?.db.exists())
    }

    /// The owner of the project's runs: whoever it is, or this process.
    async fn own(&self) -> Result<(Hub, Hint), Fault> {
        let place = self.place()?;
        Ok((Hub::own(self.db.store(&place)?).await?, Hint::to(&place, &self.db)))
    }

    /// Likewise, but nothing goes on because of us: without an owner the runs are only looked at.
    async fn look(&self) -> Result<(Hub, Hint), Fault> {
        let place = self.place()?;
        Ok((Hub::look(self.db.store(&place)?).await?, Hint::to(&place, &self.db)))
    }
}

/// The run whose id begins like this.
async fn find(hub: &Hub, id: &str) -> Result<Run, Fault> {
    let mut found = hub.ask(Runs { live: false, prefix: Some(id.to_owned()), limit: 2 }).await?.runs;
    match (found.pop(), found.pop()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(Fault::usage(format!("several runs begin with {id}"), "write more of the id")),
        (None, _) => Err(Fault::usage(
            format!("this project has no run {id}"),
            "`antiphon runs` lists them; --project or --db name another project",
        )),
    }
}

/// The options that lead another command to the same runs: what hints must repeat.
#[derive(Clone, Debug, Default)]
pub struct Hint(String);

impl Hint {
    /// For runs of this place.
    pub fn to(place: &Place, db: &Db) -> Self {
        if let Some(db) = &db.db {
            return Self(format!(" --db {}", db.display()));
        }
        match Place::here() {
            Ok(here) if here.root == place.root => Self::default(),
            _ => Self(format!(" --project {}", crate::project::shown(&place.root))),
        }
    }

    /// A command line to copy.
    pub fn command(&self, words: &str) -> String {
        format!("antiphon {words}{}", self.0)
    }
}
