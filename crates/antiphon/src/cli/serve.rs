//! `serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use antiphon_server::{Auth, HttpOptions, Token};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Db;
use super::run::TrustArgs;
use crate::exit::Exit;
use crate::exposed::{self, Served};
use crate::fault::Fault;
use crate::late::Lent;
use crate::owner::{Attach, Door, Link, relay};
use crate::project::{Place, shown};
use crate::stop::Stop;
use crate::store::Store;
use crate::trust::{self, Trust};
use crate::ui;

/// How long connections may take to close after a signal.
const FAREWELL: Duration = Duration::from_secs(3);

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Workflow files, or folders of them [default: the current folder]
    paths: Vec<PathBuf>,
    /// Serve this agent alone
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// How callers reach it
    #[arg(long, value_enum, default_value_t = Transport::Stdio)]
    transport: Transport,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    db: Db,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Stdio,
    Http,
}

#[derive(Debug, Args)]
struct HttpArgs {
    /// HTTP: the address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// HTTP: the port; 0 takes a free one
    #[arg(long, default_value_t = 8765)]
    port: u16,
    /// HTTP: ask for a bearer token, the value of the environment variable ENV; whoever has it is `token:NAME`; repeatable
    #[arg(long = "token", value_name = "NAME=ENV")]
    tokens: Vec<String>,
    /// HTTP: also answer to this value of the Host header; repeatable
    #[arg(long = "allow-host", value_name = "HOST")]
    hosts: Vec<String>,
    /// HTTP: also answer to pages of this origin; repeatable
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// HTTP: refuse `tasks/…` requests without the `Mcp-Name` header, as the extension demands and common clients forget
    #[arg(long)]
    strict: bool,
}

/// Serves until the host closes its side, or a signal comes.
pub async fn serve(args: ServeArgs) -> Result<Exit, Fault> {
    let mut stop = Stop::listen()?;
    let paths = match args.paths.as_slice() {
        [] => vec![Place::here()?.folder],
        paths => paths
            .iter()
            .map(|path| Place::of(path).map(|place| place.file.unwrap_or(place.folder)))
            .collect::<Result<_, _>>()?,
    };
    let served = exposed::load(&paths, args.agent.as_deref())?;
    let http = match args.transport {
        Transport::Http => Some(args.http.options(exposed::auth(&served)?)?),
        Transport::Stdio => None,
    };
    let (store, attach) = agreed(&served, paths, &args)?;
    let stopping = CancellationToken::new();
    let mut door = Door::new(store, attach.clone(), stopping.clone());
    let (served, told) = {
        let serving = async {
            match http {
                None => stdio(&mut door, &attach, &stopping).await,
                Some(options) => over_http(&mut door, &attach, &args.http, options).await,
            }
        };
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => (served, false),
            () = stop.requested() => {
                stopping.cancel();
                (timeout(FAREWELL, serving).await.unwrap_or(Ok(())), true)
            }
        }
    };
    door.close(told).await;
    served.map(|()| Exit::Ok)
}

/// Where the runs are, and what is served, once its commands are agreed to.
fn agreed(served: &[Served], paths: Vec<PathBuf>, args: &ServeArgs) -> Result<(Store, Attach), Fault> {
    let Some(first) = served.first().map(|served| served.place.clone()) else {
        return Err(Fault::usage("there is nothing to serve", "name a workflow file, or a folder of them"));
    };
    if let Some(other) = served.iter().find(|served| served.place.root != first.root && args.db.db.is_none()) {
        return Err(Fault::usage(
            format!("{} and {} are different projects", shown(&first.root), shown(&other.place.root)),
            "serve them separately, or name one database for both with --db",
        ));
    }
    for diagnostic in served.iter().flat_map(|served| &served.checked.diagnostics).filter(|one| one.is_error()) {
        tracing::warn!("not served: {} ({})", diagnostic.path(), diagnostic.message());
    }
    let store = args.db.store(&first)?;
    store.create()?;
    let mut lines = Vec::new();
    let mut lent = Lent::default();
    for one in served {
        let Served { checked, workflows, .. } = one;
        let servers = one.servers();
        let models = workflows.iter().flat_map(|workflow| workflow.models_used.iter().cloned()).collect();
        lines.extend(trust::command_lines(&checked.project, &servers));
        lent.extend(Lent::to(&checked.project, &servers, &models));
    }
    Trust::at(&store.trusted).obtain(lines, args.trust.trust)?;
    Ok((store, Attach { paths, agent: args.agent.clone(), lent }))
}

async fn stdio(door: &mut Door, attach: &Attach, stopping: &CancellationToken) -> Result<(), Fault> {
    if let Some(owning) = door.owner().await? {
        return owning.serving(attach, async |server| server.serve_stdio().await).await?.map_err(Fault::internal);
    }
    let host = Link { reader: Box::new(tokio::io::stdin()), writer: Box::new(tokio::io::stdout()) };
    tokio::select! {
        () = stopping.cancelled() => Ok(()),
        relayed = relay(host, async || door.open().await) => relayed,
    }
}

async fn over_http(door: &mut Door, attach: &Attach, args: &HttpArgs, options: HttpOptions) -> Result<(), Fault> {
    let address = (args.host, args.port);
    let unusable =
        |e| Fault::usage(format!("can't listen on {}:{}: {e}", args.host, args.port), "choose another --port");
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let Some(owning) = door.owner().await? else {
        return Err(Fault::internal_with(
            "another process owns this project's runs, and HTTP is served by the owner alone",
            "start `antiphon serve --transport http` first and let the others attach, or give it a database of its own (--db)",
        ));
    };
    let served = owning.serving(attach, async |server| {
        ui::note(format_args!("listening on http://{address}/mcp"));
        server.serve_http(listener, options).await
    });
    served.await?.map_err(Fault::internal)
}

impl HttpArgs {
    fn options(&self, auth: Option<Auth>) -> Result<HttpOptions, Fault> {
        let mut options = HttpOptions::default();
        options.allowed_hosts.extend(self.hosts.iter().cloned());
        options.allowed_origins.extend(self.origins.iter().cloned());
        options.strict = self.strict;
        options.tokens = self.tokens.iter().map(|token| named_token(token)).collect::<Result<_, _>>()?;
        if let Some(auth) = &auth {
            // The name by which callers know us, whatever stands before us.
            let name = auth.audience.split('/').nth(2).map(str::to_owned);
            options.allowed_hosts.extend(name);
        }
        options.auth = auth;
        if !self.host.is_loopback() {
            if options.tokens.is_empty() && options.auth.is_none() {
                return Err(Fault::usage(
                    format!("{} can be reached from other machines", self.host),
                    "ask for a token: --token NAME=ENV, or [serve.auth] in antiphon.toml",
                ));
            }
            if !self.host.is_unspecified() {
                options.allowed_hosts.push(self.host.to_string());
            }
        }
        Ok(options)
    }
}

fn named_token(text: &str) -> Result<Token, Fault> {
    let how = "write --token NAME=ENV, where ENV is an environment variable that holds the secret";
    let Some((name, variable)) = text.split_once('=') else {
        // Not repeated: somebody may have put the secret itself here.
        return Err(Fault::usage("a --token is not NAME=ENV", how));
    };
    match std::env::var(variable) {
        Ok(secret) if !secret.is_empty() => Ok(Token::new(name, &secret)),
        _ => Err(Fault::usage(format!("the environment variable of --token {name}=… is not set"), how)),
    }
}
