//! Where the browser comes back to: an address of this machine, for the time of one login.

use std::future::IntoFuture;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const PATH: &str = "/callback";
/// How long the last page may take to be sent.
const FAREWELL: Duration = Duration::from_secs(2);

/// Listens on the loopback, and nowhere else.
pub(super) struct Redirect {
    address: SocketAddr,
    listener: TcpListener,
}

/// A browser that came back, and waits to be told how it went.
pub(super) struct Visit {
    /// The address that it came to.
    pub(super) url: String,
    page: oneshot::Sender<String>,
}

impl Redirect {
    /// On this port, or on any (0).
    pub(super) async fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// What the authorization server is told.
    pub(super) fn uri(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves until it is dropped; tells of each visit that shows this `state`.
    pub(super) fn visits(self, state: &str) -> (mpsc::Receiver<Visit>, Serving) {
        let (tell, visits) = mpsc::channel(1);
        let (origin, state) = (format!("http://{}", self.address), state.to_owned());
        let app = Router::new().route(PATH, get(move |uri: Uri| visited(format!("{origin}{uri}"), state, tell)));
        let over = CancellationToken::new();
        let serving = axum::serve(self.listener, app).with_graceful_shutdown(over.clone().cancelled_owned());
        (visits, Serving { over, task: tokio::spawn(serving.into_future()) })
    }
}

/// Ends when it is told, or dropped.
pub(super) struct Serving {
    over: CancellationToken,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Serving {
    /// Lets the last page go out.
    pub(super) async fn end(mut self) {
        self.over.cancel();
        let _ = tokio::time::timeout(FAREWELL, &mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Visit {
    /// What the person in front of the browser is to read.
    pub(super) fn answer(self, text: &str) {
        let _ = self.page.send(text.to_owned());
    }
}

async fn visited(url: String, state: String, tell: mpsc::Sender<Visit>) -> Response {
    // Any page of any site can make a browser come here; only the one that was sent out knows the state.
    if parameter(&url, "state").is_none_or(|shown| shown != state) {
        return (StatusCode::BAD_REQUEST, "this is not the login that is waited for").into_response();
    }
    let (page, told) = oneshot::channel();
    if tell.send(Visit { url, page }).await.is_err() {
        return (StatusCode::GONE, "the login is over").into_response();
    }
    let text = told.await.unwrap_or_else(|_| "The login is over.".to_owned());
    Html(format!("<!doctype html><meta charset=utf-8><title>Antiphon</title><p>{}</p>", escaped(&text))).into_response()
}

/// A parameter of an address.
pub(super) fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
