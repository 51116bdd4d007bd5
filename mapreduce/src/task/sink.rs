//! The output file of a task: lines are made on the thread that has the records and written by a task that waits
//! for the file system, with a bounded queue between. What the lines say is not known here.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tokio::sync::mpsc;

use crate::{error::Error, files::Files};

/// What is written at once.
const PIECE: usize = 1 << 20;
/// Pieces that wait to be written.
const QUEUE: usize = 4;

/// The end that makes lines. Its calls block: it belongs on a thread of its own.
pub(crate) struct Sink {
    buffer: Vec<u8>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    to: mpsc::Sender<Bytes>,
    /// Records written.
    pub(crate) records: u64,
}

/// The end that writes.
pub(crate) struct PartFile {
    files: Arc<dyn Files>,
    path: String,
    from: mpsc::Receiver<Bytes>,
}

/// Both ends of the output at `path`.
pub(crate) fn part(files: &Arc<dyn Files>, path: &str, gzip: bool) -> (Sink, PartFile) {
    let (to, from) = mpsc::channel(QUEUE);
    let gzip = gzip.then(|| GzEncoder::new(Vec::new(), Compression::default()));
    let sink = Sink { buffer: Vec::new(), gzip, to, records: 0 };
    (sink, PartFile { files: files.clone(), path: path.to_owned(), from })
}

impl Sink {
    /// Writes a record, given in parts.
    pub(crate) fn record(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        self.records += 1;
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let piece = match &mut self.gzip {
            None => std::mem::take(&mut self.buffer),
            Some(encoder) => {
                encoder
                    .write_all(&self.buffer)
                    .map_err(|error| Error::disk("compressing the output", error))?;
                self.buffer.clear();
                std::mem::take(encoder.get_mut())
            }
        };
        self.send(piece)
    }

    fn send(&self, piece: Vec<u8>) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        // The writer is gone: it tells why.
        self.to.blocking_send(piece.into()).map_err(|_| Error::Cancelled)
    }

    /// Hands over the rest; tells how many records there were.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.flush()?;
        if let Some(encoder) = self.gzip.take() {
            let rest =
                encoder.finish().map_err(|error| Error::disk("compressing the output", error))?;
            self.send(rest)?;
        }
        Ok(self.records)
    }
}

impl PartFile {
    /// Writes until the other end is done or dropped; the file is then durable. Tells its bytes.
    pub(crate) async fn write(mut self) -> Result<u64, Error> {
        let failed = |error| Error::files(format!("writing {}", self.path), error);
        let ino = self.files.create(&self.path).await.map_err(failed)?;
        let mut size = 0;
        let mut written = Ok(());
        while let Some(piece) = self.from.recv().await {
            let length = piece.len() as u64;
            written = self.files.write(ino, size, piece).await.map_err(failed);
            if written.is_err() {
                break;
            }
            size += length;
        }
        drop(self.from);
        let finished = self.files.finish(ino).await.map_err(failed);
        written.and(finished).map(|()| size)
    }
}
