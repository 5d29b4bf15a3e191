//! Rows of one group in one sled database.
//!
//! Values above 3 KiB are cut into chunks in a second tree, so that sled never moves them to separate files.
//! sled may panic on damage; every call is caught and reported as corruption.

use crate::codec;
use crate::types::{LogId, StoredMembership};
use baton_protocol::proto::internal as pb;
use baton_state_machine::tables::Visit;
use baton_state_machine::{Change, TableError, Tables};
use bytes::Bytes;
use prost::Message as _;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Largest value stored in one piece.
pub(crate) const VALUE_BYTES_MAX: usize = 3 * 1024;
/// Rows held in memory at once while tables are filled from a snapshot.
pub(crate) const FILL_ROWS_MAX: usize = 4_096;

const TAG_INLINE: u8 = 0;
const TAG_CHUNKED: u8 = 1;
const MARK_KEY: &[u8] = b"mark";

/// What the rows contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

#[derive(Debug)]
pub(crate) struct DiskTables {
    db: sled::Db,
    rows: sled::Tree,
    chunks: sled::Tree,
    /// Whether any row is in chunks: only then need a rewritten row be looked up for old ones.
    has_chunks: AtomicBool,
    meta: sled::Tree,
}

impl DiskTables {
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, TableError> {
        guarded(|| {
            let db = sled::Config::new()
                .path(dir)
                .cache_capacity(cache_bytes)
                .flush_every_ms(None)
                .open()?;
            let chunks = db.open_tree("chunks")?;
            Ok(Self {
                rows: db.open_tree("rows")?,
                has_chunks: AtomicBool::new(!chunks.is_empty()),
                chunks,
                meta: db.open_tree("meta")?,
                db,
            })
        })
    }

    /// What the tables contain and whether a checkpoint was open; nothing in fresh tables.
    pub(crate) fn mark(&self) -> Result<(Position, bool), TableError> {
        let Some(bytes) = guarded(|| self.meta.get(MARK_KEY))? else {
            return Ok((Position::default(), false));
        };
        let corrupt = |e: codec::DecodeError| TableError::Corrupt(e.to_string());
        let mark: pb::TablesMark = codec::decode("tables mark", &bytes).map_err(corrupt)?;
        let membership = mark
            .membership
            .as_ref()
            .map(codec::stored_membership_from_pb)
            .transpose()
            .map_err(corrupt)?;
        let position = Position {
            applied: mark.last_applied.as_ref().map(codec::log_id_from_pb),
            membership: membership.unwrap_or_default(),
        };
        Ok((position, mark.dirty))
    }

    /// Opens or closes a checkpoint.
    pub(crate) fn set_mark(&self, position: &Position, dirty: bool) -> Result<(), TableError> {
        let mark = pb::TablesMark {
            last_applied: position.applied.as_ref().map(codec::log_id_to_pb),
            membership: Some(codec::stored_membership_to_pb(&position.membership)),
            dirty,
        };
        guarded(|| {
            self.meta.insert(MARK_KEY, mark.encode_to_vec())?;
            self.db.flush()
        })
        .map(drop)
    }

    /// Writes changes row by row. Not atomic: belongs between two [`DiskTables::set_mark`]. A sled batch would hold a lock
    /// of the whole process, which stops the applies of every group.
    pub(crate) fn write<'a>(
        &self,
        changes: impl Iterator<Item = (&'a Vec<u8>, &'a Change)>,
    ) -> Result<u64, TableError> {
        let mut written = 0;
        for (key, change) in changes {
            if change.existed && self.has_chunks.load(Ordering::Relaxed) {
                self.drop_chunks(key)?;
            }
            match &change.value {
                None => guarded(|| self.rows.remove(key))?,
                Some(value) if value.len() <= VALUE_BYTES_MAX => {
                    let stored = [&[TAG_INLINE], value.as_ref()].concat();
                    guarded(|| self.rows.insert(key, stored))?
                }
                Some(value) => {
                    let count = self.write_chunks(key, value)?;
                    let stored = [&[TAG_CHUNKED], &count.to_be_bytes()[..]].concat();
                    guarded(|| self.rows.insert(key, stored))?
                }
            };
            written += 1;
        }
        Ok(written)
    }

    /// Every row in key order, for a snapshot. `visit` may stop with an error.
    ///
    /// sled counts what its cache holds only after 64 reads in one of 256 shards of pages; a scan reads each page once
    /// and would leave most of the database in memory, whatever the cache's capacity. Reading every row once more, from
    /// the page that is at hand, keeps the count going (about 1 µs a row).
    pub(crate) fn for_each<E: From<TableError>>(
        &self,
        mut visit: impl FnMut(&[u8], &Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.rows.iter();
        while let Some((key, stored)) = guarded(|| rows.next().transpose())? {
            guarded(|| self.rows.get(&key))?;
            visit(&key, &self.value(&key, &stored)?)?;
        }
        Ok(())
    }

    fn value(&self, key: &[u8], stored: &[u8]) -> Result<Bytes, TableError> {
        match stored.split_first() {
            Some((&TAG_INLINE, value)) => Ok(Bytes::copy_from_slice(value)),
            Some((&TAG_CHUNKED, count)) => self.read_chunks(key, chunk_count(count)?),
            _ => Err(TableError::Corrupt("row tag".into())),
        }
    }

    fn read_chunks(&self, key: &[u8], count: u32) -> Result<Bytes, TableError> {
        let mut value = Vec::with_capacity(count as usize * VALUE_BYTES_MAX);
        for number in 0..count {
            let chunk = guarded(|| self.chunks.get(chunk_key(key, number)))?;
            value.extend_from_slice(&chunk.ok_or_else(|| TableError::Corrupt("chunk is missing".into()))?);
        }
        Ok(value.into())
    }

    fn write_chunks(&self, key: &[u8], value: &[u8]) -> Result<u32, TableError> {
        self.has_chunks.store(true, Ordering::Relaxed);
        let mut count = 0;
        for chunk in value.chunks(VALUE_BYTES_MAX) {
            guarded(|| self.chunks.insert(chunk_key(key, count), chunk))?;
            count += 1;
        }
        Ok(count)
    }

    fn drop_chunks(&self, key: &[u8]) -> Result<(), TableError> {
        let old = guarded(|| self.rows.get(key))?;
        let Some((&TAG_CHUNKED, count)) = old.as_ref().and_then(|stored| stored.split_first()) else {
            return Ok(());
        };
        for number in 0..chunk_count(count)? {
            guarded(|| self.chunks.remove(chunk_key(key, number)))?;
        }
        Ok(())
    }
}

impl Tables for DiskTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        let Some(stored) = guarded(|| self.rows.get(key))? else {
            return Ok(None);
        };
        self.value(key, &stored).map(Some)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        let mut rows = guarded(|| Ok(self.rows.range(from..to)))?;
        while let Some((key, stored)) = guarded(|| rows.next().transpose())? {
            let value = self.value(&key, &stored)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}

fn chunk_count(bytes: &[u8]) -> Result<u32, TableError> {
    let bytes = <[u8; 4]>::try_from(bytes).map_err(|_| TableError::Corrupt("chunk count".into()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Key length first, so that no chunk of one row can be taken for one of another.
fn chunk_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(key.len() + 8);
    chunk.extend_from_slice(&(key.len() as u32).to_be_bytes());
    chunk.extend_from_slice(key);
    chunk.extend_from_slice(&number.to_be_bytes());
    chunk
}

fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, TableError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(TableError::Storage(e.to_string())),
        Err(panic) => Err(TableError::Corrupt(crate::log::writer::panic_text(&*panic))),
    }
}
