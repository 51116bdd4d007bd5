//! Reading the pieces of a split, some ahead, into a bounded queue: plain files in parallel reads, compressed ones
//! through their decompressor. What the bytes mean is not known here.

use std::{io::Write as _, sync::Arc, sync::atomic::AtomicU64, sync::atomic::Ordering};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use fs::InodeNo;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use world::World;

use super::{
    plan::is_compressed,
    record::{Rule, Tail},
};
use crate::{error::Error, files::Files, proto::Piece};

/// What is read at once.
const CHUNK: u64 = 1 << 20;
/// Reads under way at once: small files are waited for together, large ones are read ahead.
const ABREAST: usize = 8;
/// Compressed bytes that are decompressed at once: they may become a thousand times as many.
const SLICE: usize = 64 << 10;

/// What comes out of the queue, for each piece in order.
pub(crate) enum Feed {
    /// A piece begins.
    Open(usize),
    /// Its next bytes, also from behind its end as far as its last record may reach.
    Bytes(Bytes),
    /// It is all there.
    Close,
}

/// How many [`Feed`]s wait in the queue at most.
pub(crate) const QUEUE: usize = 8;

/// Reads the input of one attempt.
pub(crate) struct Reader {
    pub(crate) world: World,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) rule: Rule,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) to: mpsc::Sender<Result<Feed, Error>>,
    /// Bytes of the split that were read, for whoever watches.
    pub(crate) read: Arc<AtomicU64>,
}

/// The consumer is gone: nothing is left to do.
struct Gone;

enum Stop {
    Gone,
    Failed(Error),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A read to be made.
#[derive(Clone, Copy)]
struct Chunk {
    piece: usize,
    offset: u64,
    length: u64,
    first: bool,
    last: bool,
}

impl Reader {
    /// Reads everything; an error goes into the queue.
    pub(crate) async fn run(self) {
        if let Err(Stop::Failed(error)) = self.all().await {
            let _ = self.to.send(Err(error)).await;
        }
    }

    async fn all(&self) -> Result<(), Stop> {
        let mut chunks = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            if is_compressed(&piece.path) {
                self.plain(std::mem::take(&mut chunks)).await?;
                self.compressed(at, piece).await?;
            } else {
                chunks.extend(self.chunks(at, piece));
            }
        }
        self.plain(chunks).await
    }

    fn chunks(&self, at: usize, piece: &Piece) -> impl Iterator<Item = Chunk> + use<> {
        let begin = self.rule.from(piece.offset);
        let end = piece.offset + piece.length;
        let count = (end - begin).div_ceil(CHUNK).max(1);
        (0..count).map(move |number| {
            let offset = begin + number * CHUNK;
            let length = CHUNK.min(end - offset);
            Chunk { piece: at, offset, length, first: number == 0, last: number + 1 == count }
        })
    }

    async fn send(&self, feed: Feed) -> Result<(), Gone> {
        self.to.send(Ok(feed)).await.map_err(|_| Gone)
    }

    async fn plain(&self, chunks: Vec<Chunk>) -> Result<(), Stop> {
        let reads = stream::iter(chunks).map(|chunk| async move {
            (chunk, self.read(&self.pieces[chunk.piece], chunk.offset, chunk.length).await)
        });
        let mut reads = reads.buffered(ABREAST);
        while let Some((chunk, parts)) = reads.next().await {
            if chunk.first {
                self.send(Feed::Open(chunk.piece)).await?;
            }
            let mut got = 0;
            for part in parts? {
                got += part.len() as u64;
                self.read.fetch_add(part.len() as u64, Ordering::Relaxed);
                self.send(Feed::Bytes(part)).await?;
            }
            let piece = &self.pieces[chunk.piece];
            if got < chunk.length {
                return Err(Stop::Failed(Error::Input {
                    path: piece.path.clone(),
                    reason: format!(
                        "it ends at byte {}: it was cut while the job ran",
                        chunk.offset + got
                    ),
                }));
            }
            if chunk.last {
                if !piece.last {
                    self.tail(piece).await?;
                }
                self.send(Feed::Close).await?;
            }
        }
        Ok(())
    }

    /// Reads on behind a piece, as far as its last record may reach.
    async fn tail(&self, piece: &Piece) -> Result<(), Stop> {
        let mut tail = Tail::new(&self.rule);
        if matches!(self.rule, Rule::Fixed(_)) {
            return Ok(());
        }
        let mut offset = piece.offset + piece.length;
        let mut length = 4096;
        loop {
            let mut got = 0;
            for part in self.read(piece, offset, length).await? {
                got += part.len() as u64;
                let enough = tail.is_enough(&part);
                self.send(Feed::Bytes(part)).await?;
                if enough {
                    return Ok(());
                }
            }
            if got == 0 {
                return Ok(());
            }
            offset += got;
            length = (length * 4).min(CHUNK);
        }
    }

    async fn read(&self, piece: &Piece, offset: u64, length: u64) -> Result<Vec<Bytes>, Error> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let failed =
            |error| Error::files(format!("reading {} at byte {offset}", piece.path), error);
        self.files.read(InodeNo(piece.ino), offset, length).await.map_err(failed)
    }

    async fn compressed(&self, at: usize, piece: &Piece) -> Result<(), Stop> {
        self.send(Feed::Open(at)).await?;
        let mut decoder = MultiGzDecoder::new(Vec::new());
        let mut offset = 0;
        while offset < piece.length {
            let parts = self.read(piece, offset, CHUNK.min(piece.length - offset)).await?;
            let got: u64 = parts.iter().map(|part| part.len() as u64).sum();
            if got == 0 {
                break;
            }
            offset += got;
            for part in parts {
                self.read.fetch_add(part.len() as u64, Ordering::Relaxed);
                for begin in (0..part.len()).step_by(SLICE) {
                    let slice = part.slice(begin..part.len().min(begin + SLICE));
                    let (back, plain) = self.decompress(decoder, slice, piece).await?;
                    decoder = back;
                    self.send(Feed::Bytes(plain)).await?;
                }
            }
        }
        decoder.try_finish().map_err(|error| broken(piece, &error))?;
        let rest = std::mem::take(decoder.get_mut());
        self.send(Feed::Bytes(rest.into())).await?;
        self.send(Feed::Close).await?;
        Ok(())
    }

    async fn decompress(
        &self,
        mut decoder: MultiGzDecoder<Vec<u8>>,
        slice: Bytes,
        piece: &Piece,
    ) -> Result<(MultiGzDecoder<Vec<u8>>, Bytes), Error> {
        let work = move || {
            let written = decoder.write_all(&slice);
            let plain = std::mem::take(decoder.get_mut());
            written.map(|()| (decoder, Bytes::from(plain)))
        };
        self.world.blocking(work).await.map_err(|error| broken(piece, &error))
    }
}

fn broken(piece: &Piece, error: &std::io::Error) -> Error {
    Error::Input {
        path: piece.path.clone(),
        reason: format!("its compressed bytes are damaged: {error}"),
    }
}
