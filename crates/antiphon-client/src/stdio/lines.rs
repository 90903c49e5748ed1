//! Lines of bounded length. What is too long is skipped to its end, and enough is kept to tell whose answer it was.

use std::io;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of an overlong line is kept from its start and from its end.
const KEPT: usize = 4096;
/// A buffer that has grown beyond this is given back once it is empty.
const IDLE_CAPACITY: usize = 1024 * 1024;

/// Reads lines. [`Lines::next`] can be dropped at any time and nothing is lost.
pub(crate) struct Lines<R> {
    reader: R,
    max: usize,
    buffer: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where there is no line feed.
    scanned: usize,
    /// Of a line that has already been found too long.
    overlong: Option<Overlong>,
}

/// One line, without its line feed.
pub(crate) enum Line<'a> {
    /// It fits.
    Whole(&'a [u8]),
    /// It is longer than allowed.
    Overlong(Overlong),
}

/// What is kept of an overlong line.
#[derive(Debug, Default)]
pub(crate) struct Overlong {
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
    /// Its last bytes.
    pub(crate) tail: Vec<u8>,
    /// How long it is.
    pub(crate) bytes: usize,
}

impl Overlong {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        let missing = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..missing]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let excess = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..excess);
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `max` bytes.
    pub(crate) fn new(reader: R, max: usize) -> Self {
        Self { reader, max, buffer: Vec::new(), start: 0, scanned: 0, overlong: None }
    }

    /// The next line; `None` at the end of the stream. An unfinished last line does not count.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.scanned..]) {
                let end = self.scanned + at;
                let line = self.start..end;
                self.start = end + 1;
                self.scanned = self.start;
                if let Some(mut overlong) = self.overlong.take() {
                    overlong.add(&self.buffer[line]);
                    return Ok(Some(Line::Overlong(overlong)));
                }
                return Ok(Some(Line::Whole(&self.buffer[line])));
            }
            self.scanned = self.buffer.len();
            self.make_room();
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// What came after the last line feed.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Drops what has been handed out, and moves a line that has become too long out of the buffer.
    fn make_room(&mut self) {
        let pending = &self.buffer[self.start..];
        if self.overlong.is_some() || pending.len() > self.max {
            self.overlong.get_or_insert_default().add(pending);
            self.start = self.buffer.len();
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_CAPACITY);
        } else {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
        self.scanned = self.buffer.len();
        self.buffer.reserve(8 * 1024);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]
    use super::*;

    async fn read(input: &[u8], max: usize) -> Vec<String> {
        let mut lines = Lines::new(input, max);
        let mut out = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            out.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::Overlong(line) => format!(
                    "{} bytes, {}…{}",
                    line.bytes,
                    String::from_utf8_lossy(&line.head[..3]),
                    String::from_utf8_lossy(&line.tail[line.tail.len() - 3..])
                ),
            });
        }
        out
    }

    #[tokio::test]
    async fn lines_of_all_lengths() {
        assert_eq!(read(b"one\n\ntwo\nunfinished", 100).await, ["one", "", "two"]);
        let mut input = b"short\n<".to_vec();
        input.extend(vec![b'x'; 50_000]);
        input.extend(b"end\nafter\n");
        assert_eq!(read(&input, 100).await, ["short", "50004 bytes, <xx…end", "after"]);
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_fits() {
        let mut input = vec![b'x'; 8192];
        input.push(b'\n');
        assert_eq!(read(&input, 8192).await, ["x".repeat(8192)]);
    }

    #[tokio::test]
    async fn what_is_left_at_the_end() {
        let mut lines = Lines::new(b"one\ntwo".as_slice(), 100);
        while lines.next().await.unwrap().is_some() {}
        assert_eq!(lines.rest(), b"two");
    }
}
