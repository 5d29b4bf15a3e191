//! What pushes come to, and replays, drawn from numbers.

use super::draw::Draw;
use super::{World, header};
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{
    AcknowledgeAttempt, CallbackSecret, FailAttempt, PushReport, RecordReplay, ReplayDelivery,
};
use baton_protocol::{DeliveryId, IntentId};
use baton_state_machine::testing::{agent, pushed};

pub(super) fn secret(value: &str) -> CallbackSecret {
    CallbackSecret { value: value.into() }
}

impl World {
    /// An attempt that failed or was taken, or something about a replay.
    pub(super) fn push(&self, draw: &mut Draw) -> (usize, Body) {
        let (group, intent_id, cursor) = self.attempt(draw);
        let id = IntentId::from_slice(&intent_id);
        let holder = id
            .and_then(|id| header(&self.groups[group], id))
            .and_then(|intent| intent.holder().cloned());
        let agent = holder.filter(|_| !draw.one_in(8)).unwrap_or_else(|| agent("w0"));
        let push = Some(PushReport {
            agent: Some(agent.clone()),
            delay_ms: draw.below(3) * 2_000,
            ..pushed("w0", draw.pick(&[0, 200, 410, 503]).unwrap(), 0)
        });
        let delivery = id.map(|id| {
            let replay = draw.below(3) as u32;
            DeliveryId::new(id, &agent.key).replayed(replay).to_key()
        });
        let body = match draw.below(8) {
            0..=2 => Body::FailAttempt(FailAttempt {
                intent_id,
                cursor,
                push,
            }),
            3 | 4 => Body::AcknowledgeAttempt(AcknowledgeAttempt {
                intent_id,
                cursor,
                push: push.filter(|_| !draw.one_in(9)),
            }),
            5 | 6 => Body::ReplayDelivery(ReplayDelivery {
                actor: Self::any_actor(draw),
                delivery,
                idempotency: Self::any_claim(draw),
            }),
            _ => Body::RecordReplay(RecordReplay {
                delivery,
                attempt: 1 + draw.below(3) as u32,
                delivered: draw.one_in(2),
                push,
            }),
        };
        (group, body)
    }
}
