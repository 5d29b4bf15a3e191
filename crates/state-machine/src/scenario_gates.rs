//! What a human task of a scenario step means for the scenario.

use crate::rows;
use crate::scenario::{self, Progress};
use crate::transaction::{Stop, Transaction};
use baton_protocol::proto::internal::{Intent, Payload, Status, StepFinished};

/// The task of the current step was answered: a positive outcome is the step's success.
pub(crate) fn answered(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    positive: bool,
    result: Payload,
) -> Progress {
    let (status, reason) = if positive {
        (Status::Completed, "")
    } else {
        (Status::Failed, "rejected")
    };
    finish_step(tx, parent, status, reason, Some(result))
}

/// The task of the current step was not answered in time.
pub(crate) fn expired(tx: &mut Transaction<'_, '_>, parent: &mut Intent) -> Result<(), Stop> {
    finish_step(tx, parent, Status::TimedOut, "", None)?;
    Ok(())
}

fn finish_step(
    tx: &mut Transaction<'_, '_>,
    parent: &mut Intent,
    status: Status,
    reason: &str,
    result: Option<Payload>,
) -> Progress {
    let id = rows::id_of(parent)?;
    let Some(mut progress) = rows::scenario(&*tx.tables, id)? else {
        return Ok(None);
    };
    let Some((step, state)) = scenario::current(&progress) else {
        return Ok(None);
    };
    let outcome = StepFinished {
        parent_intent_id: parent.intent_id.clone(),
        step_id: step.step_id.clone(),
        run: state.run,
        status: status.into(),
        result,
        reason: reason.to_owned(),
        ..StepFinished::default()
    };
    scenario::record(tx, parent, &mut progress, &outcome)
}
