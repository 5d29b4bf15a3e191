//! Writes a snapshot file beside its final place.

use super::SnapshotError;
use super::format::{CHUNK_BYTES, Kind, MAGIC, chunk_head, push_row};
use baton_protocol::proto::internal as pb;
use prost::Message as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

pub(crate) struct SnapshotWriter {
    path: PathBuf,
    out: BufWriter<File>,
    chunk: Vec<u8>,
    rows: u64,
}

impl SnapshotWriter {
    pub(crate) fn create(path: &Path, header: &pb::SnapshotHeader) -> Result<Self, SnapshotError> {
        let file = File::create(path).map_err(SnapshotError::io(path))?;
        let mut writer = Self {
            path: path.to_owned(),
            out: BufWriter::with_capacity(CHUNK_BYTES, file),
            chunk: Vec::with_capacity(CHUNK_BYTES),
            rows: 0,
        };
        writer.write(MAGIC)?;
        writer.write_chunk(Kind::Header, &header.encode_to_vec())?;
        Ok(writer)
    }

    /// Adds a row; keys must ascend.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        push_row(&mut self.chunk, key, value);
        self.rows += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush_rows()?;
        }
        Ok(())
    }

    /// Ends the file and syncs it; the caller renames it.
    pub(crate) fn finish(mut self, state_hash: u64) -> Result<(), SnapshotError> {
        self.flush_rows()?;
        let trailer = pb::SnapshotTrailer {
            rows: self.rows,
            state_hash,
        };
        self.write_chunk(Kind::Trailer, &trailer.encode_to_vec())?;
        let error = SnapshotError::io(&self.path);
        self.out.flush().map_err(&error)?;
        self.out.get_ref().sync_all().map_err(&error)
    }

    fn flush_rows(&mut self) -> Result<(), SnapshotError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.write_chunk(Kind::Rows, &chunk)?;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn write_chunk(&mut self, kind: Kind, payload: &[u8]) -> Result<(), SnapshotError> {
        self.write(&chunk_head(kind, payload))?;
        self.write(payload)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.out.write_all(bytes).map_err(SnapshotError::io(&self.path))
    }
}
