//! `UpdateControls`: merges a patch into the controls of an intent.

use crate::controls;
use crate::idempotency;
use crate::lifecycle;
use crate::transaction::{Outcome, Transaction, invalid};
use crate::visibility::{self, Operation};
use baton_protocol::proto::internal::UpdateControls;
use bytes::Bytes;

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &UpdateControls) -> Outcome {
    let actor = command.actor.as_ref();
    let (id, mut intent) =
        visibility::load(&*tx.tables, actor, &command.intent_id, Operation::UpdateControls)?;
    idempotency::once(tx, id.slot(), command.idempotency.as_ref(), &Bytes::new(), |tx| {
        lifecycle::require_open(&intent)?;
        if command.patch.is_empty() {
            return Err(invalid("controls_patch must have at least one member"));
        }
        controls::require_generation(&intent, command.expected_policy_generation)?;
        intent.controls = controls::merge(&intent.controls, &command.patch)?;
        intent.policy_generation = intent.policy_generation.saturating_add(1);
        intent.updated_at_ms = tx.now_ms;
        lifecycle::save(tx, &intent)?;
        Ok(lifecycle::transitioned(intent, None, true, None))
    })
}
