//! `ReplayDelivery`: a delivery is to be posted once more, for information.

use crate::idempotency;
use crate::keys;
use crate::pushes;
use crate::references;
use crate::rows;
use crate::transaction::{Outcome, Stop, Transaction, not_found, reject, reply};
use baton_protocol::proto::internal::{
    Delivery, DeliveryState, DeliveryView, ReplayDelivery, reply as outcome,
};
use baton_protocol::{DeliveryId, ErrorCode};
use bytes::Bytes;

/// Replays of one delivery, ever.
const REPLAYS_MAX: u32 = 1_000;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &ReplayDelivery) -> Outcome {
    let actor = command.actor.as_ref();
    let (id, view) = pushes::visible(&*tx.tables, actor, command.delivery.as_ref())?;
    let claim = command.idempotency.as_ref();
    idempotency::once(tx, id.intent_id.slot(), claim, &Bytes::new(), |tx| {
        let view = replay(tx, id, view)?;
        Ok(reply(outcome::Outcome::Delivery(view)))
    })
}

fn replay(tx: &mut Transaction<'_, '_>, id: DeliveryId, view: DeliveryView) -> Result<DeliveryView, Stop> {
    let missing = || not_found("delivery");
    let replayed = view.delivery.as_ref().ok_or_else(missing)?;
    if replayed.state() == DeliveryState::Pending {
        return Err(reject(
            ErrorCode::Conflict,
            "this delivery is pending: its next attempt comes by itself; replay it when it is over",
        ));
    }
    let own = id.replayed(0);
    let mut root = pushes::stored(&*tx.tables, own)?.ok_or_else(missing)?;
    if root.replays >= REPLAYS_MAX {
        return Err(reject(
            ErrorCode::Conflict,
            format!("this delivery was replayed {REPLAYS_MAX} times; submit a new intent"),
        ));
    }
    root.replays += 1;
    rows::write(tx.tables, keys::delivery(own), &root);
    let intent = references::header(&*tx.tables, id.intent_id)?.ok_or_else(missing)?;
    let new = own.replayed(root.replays);
    let row = Delivery {
        agent: replayed.agent.clone(),
        service_account_id: replayed.service_account_id.clone(),
        url: replayed.url.clone(),
        state: DeliveryState::Pending.into(),
        max_attempts: intent.max_delivery_attempts,
        replay_of: id.replay,
        ..Delivery::default()
    };
    let mut row = pushes::insert(tx, new, row);
    let due_ms = tx.now_ms;
    pushes::enqueue_replay(tx, new, &mut row, due_ms);
    rows::write(tx.tables, keys::delivery(new), &row);
    Ok(DeliveryView {
        delivery: Some(row),
        ..view
    })
}
