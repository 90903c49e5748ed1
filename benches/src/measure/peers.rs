//! One hop once more, beside proxies that others have made: FastMCP's, with one connection that all callers share, and as it comes.

use std::path::Path;

use tokio::process::Command;

use super::hop::{Contestant, Round, Wire, median, server};
use crate::lab::{Lab, listening};
use crate::load::Way;
use crate::report::Figure;
use crate::{Era, Error};

/// Rounds in which all take turns.
const ROUNDS: usize = 5;
/// Short calls of a round, by one caller and again by sixteen: some take long. None with a megabyte of result, which FastMCP's client
/// refuses.
const CALLS: (usize, usize) = (160, 0);
/// HTTP to HTTP, as all of them can.
const ERA: Era = Era::Legacy;

pub async fn measure(lab: &Lab) -> Result<Vec<Figure>, Error> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let python = root.join("target/clients/bin/python");
    if !python.exists() {
        eprintln!("peers: left out, since FastMCP is not there; .ci/clients installs it");
        return Ok(Vec::new());
    }
    let fastmcp = async |shared: bool| {
        let (server, url) = listening(server(lab, ERA)).await?;
        let mut proxy = Command::new(&python);
        proxy.arg(root.join("benches/peers/fastmcp_proxy.py")).arg(url).args(shared.then_some("shared"));
        proxy.env("FASTMCP_LOG_LEVEL", "ERROR");
        Ok::<_, Error>(Contestant { way: Way::http(proxy, ERA).await?, _server: Some(server) })
    };
    let contestants = [
        ("by hand", Contestant::by_hand(lab, Wire::Http, ERA).await?),
        ("Antiphon", Contestant::ours(lab, Wire::Http, ERA).await?),
        ("FastMCP, one connection", fastmcp(true).await?),
        ("FastMCP, as it comes", fastmcp(false).await?),
    ];
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for round in 0..=ROUNDS {
        for (kept, (_, contestant)) in rounds.iter_mut().zip(&contestants) {
            let found = contestant.round(CALLS).await?;
            // The first one warms up.
            if round > 0 {
                kept.push(found);
            }
        }
    }
    let parts: [Part; 4] = [
        ("CPU a call, one caller", "ms", |round| round.cpu_alone / 1e3),
        ("CPU a call, 16 callers", "ms", |round| round.cpu / 1e3),
        ("calls, 16 callers", "/s", |round| round.rate),
        ("p50, one caller", "ms", |round| round.p50),
    ];
    let figures = parts.into_iter().flat_map(|(what, unit, part)| {
        contestants
            .iter()
            .zip(&rounds)
            .map(move |((who, _), rounds)| Figure::new(format!("{what}: {who}"), median(rounds.iter().map(part)), unit))
    });
    Ok(figures.collect())
}

/// What is told of a round: its name, its unit, where it is.
type Part = (&'static str, &'static str, fn(&Round) -> f64);
