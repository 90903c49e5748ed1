//! Files from the hub, over HTTP: what is there already is not asked for again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use reqwest::header::RANGE;
use reqwest::{Client, StatusCode};

use super::{Fetching, Watch};
use crate::catalogue::Hub;

/// What people know it as.
pub(super) const NAME: &str = "the model hub";

/// Where it is, unless `HF_ENDPOINT` says otherwise.
pub(super) const PUBLIC: &str = "https://huggingface.co";

/// Where there is no way to the hub, that is to be known soon.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest silence in a download.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection that broke is made again so often without a byte in between.
const TRIES: u32 = 4;

/// Fetches a file into `part`, behind what is there already.
///
/// # Errors
/// Why not, as a clause for people.
pub(super) async fn fetch(endpoint: &str, file: &Hub, part: &Path, bytes: u64, watch: Watch<'_>) -> Result<(), String> {
    let Hub { repository, revision, file } = file;
    let url = format!("{}/{repository}/resolve/{revision}/{file}", endpoint.trim_end_matches('/'));
    let client = Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).user_agent("antiphon").build();
    let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
    let mut failures = 0;
    loop {
        let before = there(part);
        match go_on(&client, &url, part, bytes, watch).await {
            Ok(()) => return Ok(()),
            Err(Broken::Final(why)) => return Err(format!("{NAME} {why}")),
            Err(Broken::Passing(why)) => {
                failures = if there(part) > before { 1 } else { failures + 1 };
                if failures == TRIES {
                    return Err(format!("{NAME}: {why}"));
                }
                tracing::debug!(%url, %why, "the download broke off; going on with it");
                tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(failures)).await;
            }
        }
    }
}

enum Broken {
    /// Another try may go further.
    Passing(String),
    /// Another try won't.
    Final(String),
}

async fn go_on(client: &Client, url: &str, part: &Path, bytes: u64, watch: Watch<'_>) -> Result<(), Broken> {
    let disk =
        |error: std::io::Error| Broken::Final(format!("delivers, but {} can't be written: {error}", part.display()));
    let mut done = there(part);
    if done > bytes {
        fs::remove_file(part).map_err(disk)?;
        done = 0;
    }
    if done == bytes {
        return Ok(());
    }
    let mut request = client.get(url);
    if done > 0 {
        request = request.header(RANGE, format!("bytes={done}-"));
    }
    let mut response = request.send().await.map_err(|error| match error.is_connect() {
        // No network, or a name that nobody knows: that does not pass within seconds.
        true => Broken::Final(format!("can't be reached ({})", cause(&error))),
        false => Broken::Passing(cause(&error)),
    })?;
    let mut file = match response.status() {
        StatusCode::PARTIAL_CONTENT if done > 0 => File::options().append(true).open(part).map_err(disk)?,
        StatusCode::OK => {
            done = 0;
            File::create(part).map_err(disk)?
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Broken::Passing(format!("answers {status}")));
        }
        status => return Err(Broken::Final(format!("answers {status}"))),
    };
    watch(Fetching::Bytes(done));
    while let Some(chunk) = response.chunk().await.map_err(|error| Broken::Passing(cause(&error)))? {
        done += chunk.len() as u64;
        if done > bytes {
            fs::remove_file(part).map_err(disk)?;
            return Err(Broken::Final(format!("delivers more than the {bytes} bytes of the file")));
        }
        file.write_all(&chunk).map_err(disk)?;
        watch(Fetching::Bytes(done));
    }
    match done == bytes {
        true => file.sync_all().map_err(disk),
        false => Err(Broken::Passing(format!("delivered {done} of {bytes} bytes"))),
    }
}

fn there(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |file| file.len())
}

/// The innermost cause: the outer ones repeat the address.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
