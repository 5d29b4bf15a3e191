//! Deliveries by HTTP push.

use baton_protocol::DeliveryId;
use baton_protocol::proto::internal::{DeliveryState, DeliveryView};

use super::Object;
use crate::service::deliveries::{GIVEN_UP, Replayed, id_of};

pub(crate) fn delivery_json(view: &DeliveryView) -> Vec<u8> {
    let row = view.delivery.clone().unwrap_or_default();
    let agent = row.agent.clone().unwrap_or_default();
    let id = id_of(view);
    let state = row.state();
    let intent_id = id.map_or_else(String::new, |id| id.intent_id.to_string());
    let replay_of = id.filter(|id| id.replay > 0).map(|id| id.replayed(row.replay_of));
    let mut out = Object::new();
    out.text("delivery_id", &text(id));
    out.text_or_null("replay_of_delivery_id", &text(replay_of));
    out.text("org_id", &agent.org_id);
    out.text("workspace_id", &agent.workspace_id);
    out.text("principal_id", &row.service_account_id);
    out.text("alias", &agent.address);
    out.text("transport_type", "http");
    out.text("route_id", "callback");
    out.text("status", state_name(state));
    out.text_or_null("correlation_id", &view.correlation_id);
    out.raw("idempotency_key", b"null");
    let mut payload = Object::new();
    payload.text("intent_id", &intent_id);
    payload.text("intent_type", &view.intent_type);
    out.raw("payload", &payload.finish());
    let given_up = state == DeliveryState::Failed && row.last_error.is_empty();
    out.text_or_null("error_detail", if given_up { GIVEN_UP } else { &row.last_error });
    out.time("created_at", row.created_at_ms);
    out.time("updated_at", row.updated_at_ms);
    out.text("intent_id", &intent_id);
    out.text("callback_url", &row.url);
    out.number("attempts", row.attempts.into());
    out.number("max_attempts", row.max_attempts.into());
    if row.last_status == 0 {
        out.raw("last_status", b"null");
    } else {
        out.number("last_status", row.last_status.into());
    }
    if row.next_attempt_at_ms == 0 {
        out.raw("next_attempt_at", b"null");
    } else {
        out.time("next_attempt_at", row.next_attempt_at_ms);
    }
    out.finish()
}

/// One line of a bulk replay.
pub(crate) fn replayed_json(replayed: &Replayed) -> Vec<u8> {
    let mut out = Object::new();
    out.text("delivery_id", &replayed.delivery_id.to_string());
    match &replayed.outcome {
        Ok(view) => {
            out.text("replay_delivery_id", &text(id_of(view)));
            out.raw("error", b"null");
        }
        Err(failure) => {
            out.raw("replay_delivery_id", b"null");
            out.text("error", &failure.error.message);
        }
    }
    out.finish()
}

fn text(id: Option<DeliveryId>) -> String {
    id.map_or_else(String::new, |id| id.to_string())
}

pub(crate) fn state_name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Unspecified | DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
        DeliveryState::DeadLettered => "dead_lettered",
    }
}
