//! The answer to a scenario apply (surface 5.3).

use super::{Object, uuid_text};
use crate::service::scenario::{ScenarioApplied, StartedAgent};

pub(crate) fn scenario_json(applied: &ScenarioApplied) -> Vec<u8> {
    let mut out = Object::ok();
    out.text("intent_id", &uuid_text(&applied.intent_id));
    out.text("scenario_id", &applied.scenario_id);
    out.text("status", applied.status);
    out.text("compile_id", &applied.compile_id);
    out.text("workflow_compile_id", &applied.compile_id);
    out.text("pending_with", &applied.pending_with);
    out.flag("idempotent", applied.replayed);
    out.list("agents", applied.agents.iter().map(|a| agent_json(a, false)));
    out.list(
        "agents_provisioned",
        applied.agents.iter().map(|a| agent_json(a, true)),
    );
    if applied.deadline_at_ms == 0 {
        out.raw("deadline_at", b"null");
    } else {
        out.time("deadline_at", applied.deadline_at_ms);
    }
    out.time("created_at", applied.created_at_ms);
    out.texts("warnings", applied.warnings.iter().map(String::as_str));
    out.finish()
}

fn agent_json(agent: &StartedAgent, with_account: bool) -> Vec<u8> {
    let mut out = Object::new();
    out.text("role", &agent.role);
    out.text("address", &agent.agent.address);
    if with_account {
        out.text_or_null(
            "service_account_id",
            agent.service_account_id.as_deref().unwrap_or_default(),
        );
    }
    out.flag("created", agent.created);
    out.finish()
}
