//! Typed access to rows.

use crate::keys::{self, Range};
use crate::tables::{TableError, Tables};
use crate::write_batch::WriteBatch;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{Intent, Scenario};
use bytes::Bytes;
use prost::Message;
use std::ops::ControlFlow;

/// Decodes the row at `key`.
pub(crate) fn read<M: Message + Default>(tables: &dyn Tables, key: &[u8]) -> Result<Option<M>, TableError> {
    tables.get(key)?.map(|value| decode(key, value)).transpose()
}

pub(crate) fn write<M: Message>(tables: &mut WriteBatch<'_>, key: Vec<u8>, row: &M) {
    tables.put(key, row.encode_to_vec());
}

/// Writes a row whose key no row has, see [`WriteBatch::insert`].
pub(crate) fn insert<M: Message>(tables: &mut WriteBatch<'_>, key: Vec<u8>, row: &M) {
    tables.insert(key, row.encode_to_vec());
}

pub(crate) fn read_u64(tables: &dyn Tables, key: &[u8]) -> Result<Option<u64>, TableError> {
    let Some(value) = tables.get(key)? else {
        return Ok(None);
    };
    let bytes = <[u8; 8]>::try_from(value.as_ref()).map_err(|_| corrupt(key))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

pub(crate) fn write_u64(tables: &mut WriteBatch<'_>, key: Vec<u8>, value: u64) {
    tables.put(key, value.to_be_bytes().to_vec());
}

/// Text of an index row.
pub(crate) fn read_text(tables: &dyn Tables, key: &[u8]) -> Result<Option<String>, TableError> {
    let Some(value) = tables.get(key)? else {
        return Ok(None);
    };
    String::from_utf8(value.to_vec())
        .map(Some)
        .map_err(|_| corrupt(key))
}

/// Up to `limit` rows of a range, undecoded.
pub(crate) fn list(
    tables: &dyn Tables,
    range: &Range,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Bytes)>, TableError> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    tables.scan(&range.from, &range.to, &mut |key, value| {
        rows.push((key.to_vec(), value.clone()));
        if rows.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(rows)
}

pub(crate) fn decode<M: Message + Default>(key: &[u8], value: Bytes) -> Result<M, TableError> {
    M::decode(value).map_err(|_| corrupt(key))
}

pub(crate) fn scenario(tables: &dyn Tables, parent: IntentId) -> Result<Option<Scenario>, TableError> {
    read(tables, &keys::scenario(parent))
}

/// The id of a stored intent; a header without one is corrupt.
pub(crate) fn id_of(intent: &Intent) -> Result<IntentId, TableError> {
    IntentId::from_slice(&intent.intent_id)
        .ok_or_else(|| TableError::Corrupt("intent header without an id".into()))
}

fn corrupt(key: &[u8]) -> TableError {
    let hex: String = key.iter().take(40).map(|b| format!("{b:02x}")).collect();
    TableError::Corrupt(format!("row {hex} cannot be decoded"))
}
