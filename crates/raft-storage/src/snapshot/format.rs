//! Chunks and rows of a snapshot file.

use bytes::Bytes;

pub(super) const MAGIC: &[u8; 8] = b"BATONSN1";
/// Version in the header; a higher one is refused.
pub(super) const VERSION: u32 = 1;
/// Rows are collected up to this size; one larger row makes a larger chunk.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Above this a length is damage, not data.
pub(super) const CHUNK_BYTES_MAX: usize = 64 * 1024 * 1024;
pub(super) const CHUNK_HEAD_BYTES: usize = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header = 1,
    Rows = 2,
    Trailer = 3,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Header),
            2 => Some(Self::Rows),
            3 => Some(Self::Trailer),
            _ => None,
        }
    }
}

pub(super) fn chunk_head(kind: Kind, payload: &[u8]) -> [u8; CHUNK_HEAD_BYTES] {
    let mut head = [0; CHUNK_HEAD_BYTES];
    head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[4..8].copy_from_slice(&checksum(kind as u8, payload).to_le_bytes());
    head[8] = kind as u8;
    head
}

pub(super) fn checksum(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}

pub(super) fn push_row(chunk: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
    chunk.extend_from_slice(key);
    chunk.extend_from_slice(value);
}

/// The next row and the rest; `None` when the bytes are malformed.
pub(super) fn pop_row(chunk: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let head = *chunk.first_chunk::<8>()?;
    let key_len = u32::from_le_bytes(*head.first_chunk()?) as usize;
    let value_len = u32::from_le_bytes(*head.last_chunk()?) as usize;
    let rows_len = 8usize.checked_add(key_len)?.checked_add(value_len)?;
    if chunk.len() < rows_len {
        return None;
    }
    let row = chunk.split_to(rows_len);
    Some((row.slice(8..8 + key_len), row.slice(8 + key_len..)))
}
