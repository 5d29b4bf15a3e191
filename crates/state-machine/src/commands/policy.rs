//! `UpdatePolicy`: merges patches into the grants and the envelope of an intent, and enforces what the latter bounds.

use crate::controls;
use crate::envelope;
use crate::idempotency;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::UpdatePolicy;
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &UpdatePolicy) -> Outcome {
    let actor = command.actor.as_ref();
    if let Some(answer) = idempotency::answered(tx, &command.intent_id, command.idempotency.as_ref())? {
        return Ok(answer);
    }
    let (id, mut intent) = visibility::load(&*tx.tables, actor, &command.intent_id, Operation::UpdatePolicy)?;
    idempotency::once(tx, id.slot(), command.idempotency.as_ref(), &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        if command.grants.is_empty() && command.envelope.is_empty() {
            return Err(invalid(
                "grants_patch or envelope_patch must have at least one member",
            ));
        }
        controls::require_generation(&intent, command.expected_policy_generation)?;
        intent.grants = controls::merge(&intent.grants, &command.grants)?;
        intent.envelope = controls::merge(&intent.envelope, &command.envelope)?;
        if let Some(limits) = &command.limits {
            envelope::limit(tx, &mut intent, limits)?;
        }
        intent.policy_generation = intent.policy_generation.saturating_add(1);
        intent.updated_at_ms = tx.now_ms;
        lifecycle::save(tx, &intent)?;
        Ok(lifecycle::transitioned(intent, None, true, None))
    })
}
