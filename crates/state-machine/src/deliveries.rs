//! Open deliveries as whoever hands them out reads them: ids first, rows undecoded.

use crate::intents;
use crate::keys;
use crate::references;
use crate::rows;
use crate::tables::{TableError, Tables};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::AgentRef;
use bytes::Bytes;

/// The rows of one intent, encoded as `Intent` and `Payload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRows {
    pub intent: Bytes,
    /// Absent when there is none or it is larger than asked for.
    pub payload: Option<Bytes>,
}

/// Cursor and intent of open deliveries above `since`, in cursor order, at most `limit`.
///
/// # Errors
/// When storage fails.
pub fn open_deliveries(
    tables: &dyn Tables,
    agent: &AgentRef,
    since: u64,
    limit: usize,
) -> Result<Vec<(u64, IntentId)>, TableError> {
    let rows = rows::list(tables, &keys::mailbox_after(agent, since), limit)?;
    let deliveries = rows
        .iter()
        .filter_map(|(key, value)| keys::delivery_of(key, value));
    Ok(deliveries.collect())
}

/// The rows of these intents, in their order; `None` for one that is gone. With `payload_bytes_max` of 0 no payload is
/// read.
///
/// # Errors
/// When storage fails.
pub fn delivery_rows(
    tables: &dyn Tables,
    ids: &[IntentId],
    payload_bytes_max: usize,
) -> Result<Vec<Option<DeliveryRows>>, TableError> {
    let read = |id: &IntentId| -> Result<Option<DeliveryRows>, TableError> {
        let Some(row) = references::row(tables, *id)? else {
            return Ok(None);
        };
        let payload = match payload_bytes_max {
            0 => None,
            _ => intents::payload_bytes(tables, *id, &row)?,
        };
        Ok(Some(DeliveryRows {
            intent: row.intent,
            payload: payload.filter(|row| row.len() <= payload_bytes_max),
        }))
    };
    ids.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replica, agent, intent_id, submit};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{Intent, Payload, ResolveIntent, Status};
    use prost::Message;

    #[test]
    fn what_is_open_and_what_it_holds() {
        let mut replica = Replica::new(1, 1);
        let id = |n| intent_id(&agent("worker"), n);
        for n in 1..=3 {
            replica.run(Body::Submit(submit("worker", n)));
        }
        replica.run(Body::Resolve(ResolveIntent {
            intent_id: id(2).to_bytes(),
            status: Status::Completed.into(),
            ..ResolveIntent::default()
        }));
        let open = open_deliveries(&replica.tables, &agent("worker"), 0, 10).unwrap();
        assert_eq!(open.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [id(1), id(3)]);
        let rest = open_deliveries(&replica.tables, &agent("worker"), open[0].0, 1).unwrap();
        assert_eq!(rest, open[1..]);
        let rows = delivery_rows(&replica.tables, &[id(3), id(9)], 4_096).unwrap();
        let found = rows[0].clone().unwrap();
        assert_eq!(Intent::decode(found.intent).unwrap().mailbox_cursor, open[1].0);
        let payload = Payload::decode(found.payload.unwrap()).unwrap();
        assert_eq!(&payload.data[..], b"{\"amount\":1}");
        assert_eq!(rows[1], None);
        let bare = delivery_rows(&replica.tables, &[id(3)], 3).unwrap();
        assert_eq!(bare[0].clone().unwrap().payload, None);
        let header = delivery_rows(&replica.tables, &[id(3)], 0).unwrap();
        assert_eq!(header, bare);
    }
}
