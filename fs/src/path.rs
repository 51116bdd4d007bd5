//! Paths for users of the library: what the kernel does for a mounted file system. Paths are
//! absolute in the volume; symbolic links are not followed.

use bytes::Bytes;

use crate::{
    attributes::{Attributes, Caller, DirEntry, Entry, InodeNo, Kind, Lookup, RenameMode},
    error::Error,
    fs::Fs,
};

/// Bytes of one write or read call.
const PIECE: usize = 1 << 20;

/// The parts of `path` that are names.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// The directory part and the last name of `path`.
fn split(path: &str) -> Result<(&str, &str), Error> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() { Err(Error::Invalid) } else { Ok((parent, name)) }
}

async fn child(fs: &Fs, parent: InodeNo, name: &str) -> Result<Option<Entry>, Error> {
    let found = fs.lookup(parent, name.as_bytes()).await?;
    Ok(match found {
        Lookup::Found(entry) => {
            fs.forget(entry.attributes.ino, 1);
            Some(entry)
        }
        Lookup::Absent { .. } => None,
    })
}

/// The attributes of what `path` leads to.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotDirectory`].
pub async fn stat(fs: &Fs, path: &str) -> Result<Attributes, Error> {
    let mut entry = fs.getattr(InodeNo::ROOT).await?;
    for part in parts(path) {
        entry = child(fs, entry.attributes.ino, part).await?.ok_or(Error::NotFound)?;
    }
    Ok(entry.attributes)
}

/// Whether `path` leads anywhere.
///
/// # Errors
/// Only the general ones.
pub async fn exists(fs: &Fs, path: &str) -> Result<bool, Error> {
    match stat(fs, path).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The inode that `path` leads to.
///
/// # Errors
/// As [`stat`].
pub async fn resolve(fs: &Fs, path: &str) -> Result<InodeNo, Error> {
    Ok(stat(fs, path).await?.ino)
}

/// Makes the directory and those above it that are missing.
///
/// # Errors
/// [`Error::NotDirectory`] if something else is in the way.
pub async fn make_directories(fs: &Fs, path: &str, caller: Caller) -> Result<InodeNo, Error> {
    let mut at = InodeNo::ROOT;
    for part in parts(path) {
        let found = match child(fs, at, part).await? {
            Some(entry) => entry,
            None => {
                let node = crate::attributes::Node::directory(0o755);
                match fs.make(at, part.as_bytes(), node, caller).await {
                    Ok(entry) => {
                        fs.forget(entry.attributes.ino, 1);
                        entry
                    }
                    // Another client was faster.
                    Err(Error::Exists) => child(fs, at, part).await?.ok_or(Error::NotFound)?,
                    Err(error) => return Err(error),
                }
            }
        };
        if found.attributes.kind != Kind::Directory {
            return Err(Error::NotDirectory);
        }
        at = found.attributes.ino;
    }
    Ok(at)
}

/// `length` bytes from `offset` of a file; fewer at its end.
///
/// # Errors
/// As [`Fs::read`].
pub async fn read_range(fs: &Fs, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while (all.len() as u64) < length {
        let want = (length - all.len() as u64).min(PIECE as u64);
        let pieces = fs.read(ino, offset + all.len() as u64, want).await?;
        if pieces.iter().all(Bytes::is_empty) {
            break;
        }
        for piece in pieces {
            all.extend_from_slice(&piece);
        }
    }
    Ok(all)
}

/// A whole file.
///
/// # Errors
/// As [`stat`] and [`Fs::read`].
pub async fn read_file(fs: &Fs, path: &str) -> Result<Vec<u8>, Error> {
    let ino = resolve(fs, path).await?;
    read_range(fs, ino, 0, u64::MAX).await
}

/// Makes a file with this content, or gives an old one this content. Not durable until
/// [`Fs::fsync`].
///
/// # Errors
/// As [`Fs::create`] and [`Fs::write`].
pub async fn write_file(
    fs: &Fs,
    path: &str,
    content: Bytes,
    caller: Caller,
) -> Result<InodeNo, Error> {
    let (parent, name) = split(path)?;
    let parent = resolve(fs, parent).await?;
    let ino = match fs.create(parent, name.as_bytes(), 0o644, caller).await {
        Ok(entry) => {
            fs.forget(entry.attributes.ino, 1);
            entry.attributes.ino
        }
        Err(Error::Exists) => {
            let entry = child(fs, parent, name).await?.ok_or(Error::NotFound)?;
            fs.open(entry.attributes.ino, true).await?;
            entry.attributes.ino
        }
        Err(error) => return Err(error),
    };
    let written = write_all(fs, ino, content).await;
    fs.release(ino);
    written.map(|()| ino)
}

async fn write_all(fs: &Fs, ino: InodeNo, mut content: Bytes) -> Result<(), Error> {
    let mut offset = 0;
    while !content.is_empty() {
        let piece = content.split_to(content.len().min(PIECE));
        let length = piece.len() as u64;
        fs.write(ino, offset, piece).await?;
        offset += length;
    }
    Ok(())
}

/// The names in a directory, without `.` and `..`.
///
/// # Errors
/// As [`stat`] and [`Fs::readdir`].
pub async fn list(fs: &Fs, path: &str) -> Result<Vec<DirEntry>, Error> {
    let ino = resolve(fs, path).await?;
    let mut all = Vec::new();
    let mut cookie = 0;
    loop {
        let some = fs.readdir(ino, cookie, 1024, false).await?;
        let Some(last) = some.last() else { return Ok(all) };
        cookie = last.cookie;
        all.extend(some.into_iter().filter(|entry| entry.name != "." && entry.name != ".."));
    }
}

/// Moves `from` to `to`, replacing what is there.
///
/// # Errors
/// As [`Fs::rename`].
pub async fn rename(fs: &Fs, from: &str, to: &str) -> Result<(), Error> {
    let (parent, name) = split(from)?;
    let (new_parent, new_name) = split(to)?;
    let parent = resolve(fs, parent).await?;
    let new_parent = resolve(fs, new_parent).await?;
    fs.rename(parent, name.as_bytes(), new_parent, new_name.as_bytes(), RenameMode::Replace).await
}

/// Removes `path` and, if it is a directory, all that is in it.
///
/// # Errors
/// As [`stat`], [`Fs::unlink`] and [`Fs::rmdir`].
pub async fn remove_all(fs: &Fs, path: &str) -> Result<(), Error> {
    let attributes = stat(fs, path).await?;
    let (parent, name) = split(path)?;
    let parent = resolve(fs, parent).await?;
    if attributes.kind != Kind::Directory {
        return fs.unlink(parent, name.as_bytes()).await;
    }
    for entry in list(fs, path).await? {
        let below =
            format!("{}/{}", path.trim_end_matches('/'), String::from_utf8_lossy(&entry.name));
        Box::pin(remove_all(fs, &below)).await?;
    }
    fs.rmdir(parent, name.as_bytes()).await
}
