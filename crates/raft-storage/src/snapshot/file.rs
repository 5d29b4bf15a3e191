//! A complete snapshot file, and reading it.

use super::SnapshotError;
use super::format::{CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, Kind, MAGIC, VERSION, checksum, pop_row};
use crate::codec;
use crate::types::SnapshotMeta;
use baton_protocol::proto::internal as pb;
use baton_state_machine::tables::{STATE_HASH_KEY, row_hash};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A complete snapshot file on disk; openraft's snapshot data. It stays readable when it is replaced. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: Arc<PathBuf>,
    file: Arc<File>,
    header: Arc<pb::SnapshotHeader>,
    meta: SnapshotMeta,
    len: u64,
}

impl SnapshotFile {
    /// Opens a file and reads its header; the rest is verified at install.
    ///
    /// # Errors
    /// When the file or its header is unreadable, or its version is newer than this program.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let error = SnapshotError::io(path);
        let file = File::open(path).map_err(&error)?;
        let len = file.metadata().map_err(&error)?.len();
        let mut input = BufReader::new(At { file: &file, at: 0 });
        let header = read_header(path, &mut input)?;
        let meta = codec::snapshot_meta_from_pb(&header).map_err(|e| SnapshotError::corrupt(path, e))?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            file: Arc::new(file),
            header: Arc::new(header),
            meta,
            len,
        })
    }

    /// What it covers.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Group, feature level and format version.
    #[must_use]
    pub fn header(&self) -> &pb::SnapshotHeader {
        &self.header
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// File length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Starts reading it for a transfer. The reader stays valid when the file is replaced meanwhile.
    ///
    /// # Errors
    /// When the file is not what it was when it was opened.
    pub fn reader(&self) -> Result<SnapshotReader, SnapshotError> {
        let now = self.file.metadata().map_err(SnapshotError::io(&self.path))?;
        if now.len() != self.len {
            return Err(SnapshotError::corrupt(&self.path, "its length has changed"));
        }
        Ok(SnapshotReader { file: self.clone() })
    }

    /// Reads all rows in key order and verifies everything: checksums, order, row count, state hash. What `visit` did
    /// counts only if the result is `Ok`.
    ///
    /// # Errors
    /// On damage, or the first error of `visit`.
    pub fn for_each_row(
        &self,
        mut visit: impl FnMut(Bytes, Bytes) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let corrupt = |reason: &str| SnapshotError::corrupt(&self.path, reason);
        let mut input = BufReader::with_capacity(
            256 * 1024,
            At {
                file: &self.file,
                at: 0,
            },
        );
        read_header(&self.path, &mut input)?;
        let mut last_key: Option<Bytes> = None;
        let mut stored_hash = 0;
        let (mut rows, mut hash) = (0u64, 0u64);
        loop {
            let (kind, mut chunk) = read_chunk(&self.path, &mut input)?;
            match kind {
                Kind::Header => return Err(corrupt("second header")),
                Kind::Trailer => {
                    let trailer: pb::SnapshotTrailer =
                        codec::decode("snapshot trailer", &chunk).map_err(|e| corrupt(&e.to_string()))?;
                    if trailer.rows != rows || trailer.state_hash != hash || stored_hash != hash {
                        return Err(corrupt("rows do not match the state hash"));
                    }
                    return match input.read(&mut [0]) {
                        Ok(0) => Ok(()),
                        Ok(_) => Err(corrupt("bytes behind the end")),
                        Err(e) => Err(SnapshotError::io(&self.path)(e)),
                    };
                }
                Kind::Rows => {}
            }
            while !chunk.is_empty() {
                let (key, value) = pop_row(&mut chunk).ok_or_else(|| corrupt("row"))?;
                if last_key.as_ref().is_some_and(|last| *last >= key) {
                    return Err(corrupt("rows are out of order"));
                }
                rows += 1;
                if key == STATE_HASH_KEY {
                    let bytes = value.first_chunk().ok_or_else(|| corrupt("state hash"))?;
                    stored_hash = u64::from_be_bytes(*bytes);
                } else {
                    hash = hash.wrapping_add(row_hash(&key, &value));
                }
                last_key = Some(key.clone());
                visit(key, value)?;
            }
        }
    }

    /// Verifies the whole file.
    ///
    /// # Errors
    /// On damage.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        self.for_each_row(|_, _| Ok(()))
    }
}

/// Reads chunks of a snapshot file for a transfer.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    file: SnapshotFile,
}

impl SnapshotReader {
    /// Up to `max_bytes` from `offset`; empty at the end.
    ///
    /// # Errors
    /// When reading fails.
    pub fn read_chunk(&mut self, offset: u64, max_bytes: usize) -> Result<Bytes, SnapshotError> {
        let rest = self.file.len.saturating_sub(offset);
        let mut chunk = vec![0; usize::try_from(rest).unwrap_or(usize::MAX).min(max_bytes)];
        let read = self.file.file.read_exact_at(&mut chunk, offset);
        read.map_err(SnapshotError::io(&self.file.path))?;
        Ok(chunk.into())
    }

    /// File length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.file.len
    }
}

/// Sequential reads with an own position, so that clones of the file do not disturb each other.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn read_header(path: &Path, input: &mut impl Read) -> Result<pb::SnapshotHeader, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    read_exact(path, input, &mut magic)?;
    if magic != *MAGIC {
        return Err(SnapshotError::corrupt(path, "not a snapshot file"));
    }
    let (kind, chunk) = read_chunk(path, input)?;
    if kind != Kind::Header {
        return Err(SnapshotError::corrupt(path, "header is missing"));
    }
    let header: pb::SnapshotHeader =
        codec::decode("snapshot header", &chunk).map_err(|e| SnapshotError::corrupt(path, e))?;
    if header.version > VERSION {
        let reason = format!(
            "version {} is newer than this program's {VERSION}",
            header.version
        );
        return Err(SnapshotError::corrupt(path, reason));
    }
    Ok(header)
}

fn read_chunk(path: &Path, input: &mut impl Read) -> Result<(Kind, Bytes), SnapshotError> {
    let corrupt = |reason| SnapshotError::corrupt(path, reason);
    let mut head = [0; CHUNK_HEAD_BYTES];
    read_exact(path, input, &mut head)?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > CHUNK_BYTES_MAX {
        return Err(corrupt("chunk length"));
    }
    let mut payload = vec![0; len];
    read_exact(path, input, &mut payload)?;
    if checksum(kind, &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(corrupt("checksum"));
    }
    let kind = Kind::of(kind).ok_or_else(|| corrupt("chunk kind"))?;
    Ok((kind, payload.into()))
}

fn read_exact(path: &Path, input: &mut impl Read, buffer: &mut [u8]) -> Result<(), SnapshotError> {
    input.read_exact(buffer).map_err(|e| {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            SnapshotError::corrupt(path, "it ends too early")
        } else {
            SnapshotError::io(path)(e)
        }
    })
}
