//! Rows of an intent. A small one, payload and events included, is one row: what a storage pays for is rows, and most
//! intents are small.

use crate::keys;
use crate::lifecycle::BIRTH_EVENTS;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::write_batch::WriteBatch;
use baton_protocol::IntentId;
use baton_protocol::proto::internal::{Event, Intent, IntentRow, Payload};
use bytes::Bytes;
use prost::Message;

/// Payloads up to this many encoded bytes live in the intent's row.
const PAYLOAD_INLINE_BYTES_MAX: usize = 1_024;
/// Events that live in the intent's row, together, at most.
const EVENTS_INLINE_BYTES_MAX: usize = 1_024;
const EVENTS_INLINE_MAX: usize = 8;

pub(crate) fn row(tables: &dyn Tables, id: IntentId) -> Result<Option<IntentRow>, TableError> {
    rows::read(tables, &keys::intent(id))
}

/// The header.
pub(crate) fn intent(tables: &dyn Tables, id: IntentId) -> Result<Option<Intent>, TableError> {
    Ok(both(tables, id)?.map(|(_, intent)| intent))
}

/// The row, and its header decoded.
pub(crate) fn both(tables: &dyn Tables, id: IntentId) -> Result<Option<(IntentRow, Intent)>, TableError> {
    let key = keys::intent(id);
    let Some(row) = rows::read::<IntentRow>(tables, &key)? else {
        return Ok(None);
    };
    let intent = rows::decode(&key, row.intent.clone())?;
    Ok(Some((row, intent)))
}

/// Whether there is such an intent.
pub(crate) fn exists(tables: &dyn Tables, id: IntentId) -> Result<bool, TableError> {
    Ok(tables.get(&keys::intent(id))?.is_some())
}

/// The payload of a row that was read.
pub(crate) fn payload(
    tables: &dyn Tables,
    id: IntentId,
    row: &IntentRow,
) -> Result<Option<Payload>, TableError> {
    let payload = payload_bytes(tables, id, row)?;
    payload
        .map(|bytes| rows::decode(&keys::payload(id), bytes))
        .transpose()
}

/// The encoded payload of a row that was read.
pub(crate) fn payload_bytes(
    tables: &dyn Tables,
    id: IntentId,
    row: &IntentRow,
) -> Result<Option<Bytes>, TableError> {
    match &row.payload {
        Some(inline) => Ok(Some(inline.clone())),
        None => tables.get(&keys::payload(id)),
    }
}

/// One event that is stored, of a row that was read: not one of the birth.
pub(crate) fn event(
    tables: &dyn Tables,
    id: IntentId,
    row: &IntentRow,
    seq: u32,
) -> Result<Option<Event>, TableError> {
    let inline = inline_position(seq).and_then(|at| row.events.get(at));
    match inline {
        Some(event) => rows::decode(&keys::intent(id), event.clone()).map(Some),
        None => rows::read(tables, &keys::event(id, seq)),
    }
}

/// Up to `limit` stored events above `since`, of a row that was read.
pub(crate) fn events_after(
    tables: &dyn Tables,
    id: IntentId,
    row: &IntentRow,
    since: u32,
    limit: usize,
) -> Result<Vec<Event>, TableError> {
    let key = keys::intent(id);
    let since = since.max(BIRTH_EVENTS);
    let skipped = (since - BIRTH_EVENTS) as usize;
    let mut events = Vec::new();
    for event in row.events.iter().skip(skipped).take(limit) {
        events.push(rows::decode(&key, event.clone())?);
    }
    let since = since.saturating_add(events.len() as u32);
    for (key, value) in rows::list(tables, &keys::events_after(id, since), limit - events.len())? {
        events.push(rows::decode(&key, value)?);
    }
    Ok(events)
}

/// Writes a new intent. Nothing of it exists yet.
pub(crate) fn insert(tables: &mut WriteBatch<'_>, id: IntentId, intent: &Intent, payload: Option<&Payload>) {
    let mut row = IntentRow {
        intent: intent.encode_to_vec().into(),
        ..IntentRow::default()
    };
    if let Some(payload) = payload {
        if payload.encoded_len() <= PAYLOAD_INLINE_BYTES_MAX {
            row.payload = Some(payload.encode_to_vec().into());
        } else {
            rows::insert(tables, keys::payload(id), payload);
        }
    }
    rows::insert(tables, keys::intent(id), &row);
}

/// Rewrites the header of an intent that exists, and appends `events`, whose numbers are the next.
pub(crate) fn save<'e>(
    tables: &mut WriteBatch<'_>,
    id: IntentId,
    intent: &Intent,
    events: impl IntoIterator<Item = &'e Event>,
) -> Result<(), TableError> {
    let mut row = row(&*tables, id)?.unwrap_or_default();
    row.intent = intent.encode_to_vec().into();
    for event in events {
        let inline_bytes: usize = row.events.iter().map(Bytes::len).sum();
        let fits = row.events.len() < EVENTS_INLINE_MAX
            && inline_bytes + event.encoded_len() <= EVENTS_INLINE_BYTES_MAX
            // Once one had no room, all later ones go the same way.
            && inline_position(event.seq) == Some(row.events.len());
        if fits {
            row.events.push(event.encode_to_vec().into());
        } else {
            rows::insert(tables, keys::event(id, event.seq), event);
        }
    }
    rows::write(tables, keys::intent(id), &row);
    Ok(())
}

/// Removes header, payload and events.
pub(crate) fn erase(tables: &mut WriteBatch<'_>, id: IntentId, last_seq: u32) -> Result<(), TableError> {
    let row = row(&*tables, id)?.unwrap_or_default();
    let inline = BIRTH_EVENTS.saturating_add(row.events.len() as u32);
    for seq in inline.saturating_add(1)..=last_seq {
        tables.delete(keys::event(id, seq));
    }
    if row.payload.is_none() {
        tables.delete(keys::payload(id));
    }
    tables.delete(keys::intent(id));
    Ok(())
}

fn inline_position(seq: u32) -> Option<usize> {
    seq.checked_sub(BIRTH_EVENTS + 1).map(|at| at as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTables;
    use crate::testing::{agent, intent_id};

    fn event_of(id: IntentId, seq: u32, actor_bytes: usize) -> Event {
        Event {
            intent_id: id.to_bytes(),
            seq,
            actor: "a".repeat(actor_bytes),
            ..Event::default()
        }
    }

    fn commit(tables: &mut MemoryTables, write: impl FnOnce(&mut WriteBatch<'_>)) {
        let changes = {
            let mut batch = WriteBatch::new(&*tables);
            write(&mut batch);
            batch.finish().unwrap()
        };
        tables.commit(changes);
    }

    /// Payload and events of these sizes, and how many rows that makes beside the state hash.
    fn stored(payload_bytes: usize, event_bytes: &[usize]) -> usize {
        let id = intent_id(&agent("worker"), 1);
        let mut tables = MemoryTables::default();
        let payload = Payload {
            data: vec![1; payload_bytes].into(),
            content_type: String::new(),
        };
        let mut header = Intent {
            intent_id: id.to_bytes(),
            last_seq: BIRTH_EVENTS,
            ..Intent::default()
        };
        commit(&mut tables, |batch| insert(batch, id, &header, Some(&payload)));
        let mut last_seq = BIRTH_EVENTS;
        for bytes in event_bytes {
            last_seq += 1;
            let event = event_of(id, last_seq, *bytes);
            header.last_seq = last_seq;
            commit(&mut tables, |batch| save(batch, id, &header, [&event]).unwrap());
        }
        assert_eq!(intent(&tables, id).unwrap(), Some(header));
        let row = row(&tables, id).unwrap().unwrap();
        assert_eq!(super::payload(&tables, id, &row).unwrap(), Some(payload));
        let all = events_after(&tables, id, &row, 0, 100).unwrap();
        assert_eq!(all.len(), event_bytes.len());
        for (n, bytes) in event_bytes.iter().enumerate() {
            let seq = BIRTH_EVENTS + 1 + n as u32;
            assert_eq!(all[n], event_of(id, seq, *bytes));
            assert_eq!(event(&tables, id, &row, seq).unwrap().as_ref(), Some(&all[n]));
            assert_eq!(events_after(&tables, id, &row, seq - 1, 1).unwrap(), all[n..=n]);
        }
        let rows = tables.rows().count() - 1;
        commit(&mut tables, |batch| erase(batch, id, last_seq).unwrap());
        assert_eq!(tables.rows().count(), 1, "only the state hash is left");
        rows
    }

    #[test]
    fn small_intents_are_one_row_and_large_ones_spill() {
        assert_eq!(stored(100, &[]), 1);
        assert_eq!(stored(100, &[50, 60]), 1);
        assert_eq!(stored(5_000, &[50]), 2);
        assert_eq!(
            stored(100, &[50, 900, 200, 10]),
            3,
            "what follows a spilled event spills too"
        );
        assert_eq!(stored(5_000, &[10; 12]), 2 + 4);
    }
}
