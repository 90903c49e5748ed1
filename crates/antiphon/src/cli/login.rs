//! `login`, `logout`.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::Arc;

use antiphon_client::{Auth, ClientError, Login, Transport};
use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Which;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::late::{Environment, Lent};
use crate::store::Store;
use crate::ui;

/// Arguments of `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server: a key of [servers]
    server: String,
    /// Print the address without opening a browser
    #[arg(long)]
    no_browser: bool,
    /// The port of 127.0.0.1 that the browser comes back to, for a client that is registered with one [default: any]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The server: a key of [servers]
    server: String,
    #[command(flatten)]
    which: Which,
}

/// Has a person log in, and keeps what comes of it for this project's runs.
pub async fn login(args: LoginArgs) -> Result<Exit, Fault> {
    let (auth, store) = protected(&args.server, &args.which)?;
    if !auth.needs_login() {
        let help = "its `grant` is `client_credentials`: it can be called as it is";
        return Err(Fault::usage(format!("server `{}` needs no login", args.server), help));
    }
    store.create()?;
    let login = Login::begin(&args.server, &auth, args.port).await.map_err(failed)?;
    ui::note(format_args!("Log in to `{}` here:\n\n    {}\n", args.server, login.url()));
    if !args.no_browser {
        open(login.url());
    }
    let by_hand = io::stdin().is_terminal();
    if by_hand {
        ui::note(format_args!("If the browser is on another machine, paste the address that it ends at:"));
    }
    let told = async move { if by_hand { pasted().await } else { pending().await } };
    login.finish(told).await.map_err(failed)?;
    ui::note(format_args!("logged in to `{}`", args.server));
    Ok(Exit::Ok)
}

/// Forgets a login.
pub async fn logout(args: LogoutArgs) -> Result<Exit, Fault> {
    let (auth, store) = protected(&args.server, &args.which)?;
    let unusable = |error| Fault::internal(format!("can't use {}: {error}", store.logins.display()));
    let was = auth.logout().await.map_err(unusable)?;
    ui::note(format_args!("{} `{}`", if was { "logged out of" } else { "there was no login to" }, args.server));
    Ok(Exit::Ok)
}

/// How to become a client of a server of the project, and where that is kept.
fn protected(server: &str, which: &Which) -> Result<(Arc<Auth>, Store), Fault> {
    let place = which.place()?;
    let project = place.load()?.project;
    let Some(def) = project.servers.get(server) else {
        let known: Vec<&str> = project.servers.keys().map(String::as_str).collect();
        let help = format!("there are: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
        return Err(Fault::usage(format!("no server is named `{server}`"), help));
    };
    let nothing_lent = Lent::default();
    let environment = Environment::of(&place.root, &nothing_lent);
    environment.check(&project, &BTreeSet::from([server.to_owned()]), &BTreeSet::new())?;
    let store = which.db.store(&place)?;
    let config = environment.server(server, def, &store.logins);
    let config = config.map_err(|missing| Fault::usage(format!("server `{server}`: {missing}"), "export it"))?;
    match config.transport {
        Transport::Http { auth: Some(auth), .. } => Ok((auth, store)),
        Transport::Http { .. } => Err(Fault::usage(
            format!("server `{server}` has no `auth`"),
            format!("write `auth = \"oauth\"` into its table in {}", def.path),
        )),
        Transport::Stdio { .. } => {
            let help = "only servers at a `url` do; a command gets its keys by `env`";
            Err(Fault::usage(format!("server `{server}` knows no logins"), help))
        }
    }
}

fn failed(error: ClientError) -> Fault {
    Fault::new(Exit::Failed, miette::miette!("{error}"))
}

/// Whoever has no browser has been shown the address.
fn open(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = quiet {
        tracing::debug!(%error, opener, "no browser was opened");
    }
}

/// The first line that is an address.
async fn pasted() -> String {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.trim().starts_with("http") {
            return line;
        }
    }
    pending().await
}
