//! `DeliveryService`.

use std::sync::Arc;

use baton_protocol::limits::LIST_PAGE_MAX;
use baton_protocol::proto::internal::{DeliveryState, DeliveryView};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::delivery_service_server::DeliveryService;
use baton_protocol::{DeliveryId, ErrorCode, ServiceError};
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::decode::{self, Fingerprint, invalid};
use super::leader;
use super::status::{failure, status};
use crate::app::App;
use crate::service::deliveries::{
    DELIVERIES_DEFAULT, DeliveryFilter, GIVEN_UP, REPLAYABLE, REPLAYS_DEFAULT, Replayed, id_of,
};

pub(super) struct Deliveries(pub(super) Arc<App>);

#[tonic::async_trait]
impl DeliveryService for Deliveries {
    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let filter = decode_filter(request.filter.unwrap_or_default()).map_err(status)?;
        let behind = page_token(&request.page_token).map_err(status)?;
        let limit = bounded(request.page_size, DELIVERIES_DEFAULT);
        let service = &self.0.service;
        let found = service
            .list_deliveries(&call.caller, &filter, behind, limit)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListDeliveriesResponse {
            next_page_token: text(found.next),
            deliveries: found.deliveries.into_iter().map(delivery).collect(),
        }))
    }

    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = delivery_id(&request.delivery_id).map_err(status)?;
        let found = self.0.service.get_delivery(&call.caller, id).await;
        Ok(Response::new(v1::GetDeliveryResponse {
            delivery: Some(delivery(found.map_err(status)?)),
        }))
    }

    async fn replay_delivery(
        &self,
        request: Request<v1::ReplayDeliveryRequest>,
    ) -> Result<Response<v1::ReplayDeliveryResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = delivery_id(&request.delivery_id).map_err(status)?;
        let endpoint = format!("baton.v1.DeliveryService/ReplayDelivery {id}");
        let idempotency = decode::optional_key(request.idempotency_key, endpoint, Fingerprint::default());
        let idempotency = idempotency.map_err(status)?;
        let service = &self.0.service;
        let planned = service
            .replay_delivery(&call.caller, id, idempotency.as_ref())
            .await;
        let answer = planned.map_err(status).map(|view| v1::ReplayDeliveryResponse {
            delivery: Some(delivery(view)),
        });
        leader::tell(&self.0, leader::group_of(&self.0, id.intent_id.slot()), answer)
    }

    async fn replay_deliveries(
        &self,
        request: Request<v1::ReplayDeliveriesRequest>,
    ) -> Result<Response<v1::ReplayDeliveriesResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let mut filter = decode_filter(request.filter.unwrap_or_default()).map_err(status)?;
        if filter.states.is_empty() {
            filter.states.push(DeliveryState::DeadLettered);
        }
        if !filter.states.iter().all(|state| REPLAYABLE.contains(state)) {
            let what = "must be DEAD_LETTERED, FAILED or DELIVERED";
            return Err(status(invalid("filter.states", what)));
        }
        let behind = page_token(&request.page_token).map_err(status)?;
        let limit = bounded(request.limit, REPLAYS_DEFAULT);
        let service = &self.0.service;
        let found = service
            .replayable(&call.caller, &filter, behind, limit, request.include_replayed)
            .await
            .map_err(status)?;
        let results = if request.dry_run {
            found.deliveries.iter().map(would_be_replayed).collect()
        } else {
            let done = service.replay_all(&call.caller, &found.deliveries).await;
            done.into_iter().map(replayed).collect()
        };
        Ok(Response::new(v1::ReplayDeliveriesResponse {
            results,
            next_page_token: text(found.next),
        }))
    }
}

fn bounded(asked: u32, default: u32) -> u32 {
    match asked {
        0 => default,
        asked => asked.min(LIST_PAGE_MAX),
    }
}

fn decode_filter(filter: v1::DeliveryFilter) -> Result<DeliveryFilter, ServiceError> {
    let mut states = Vec::new();
    for number in filter.states {
        match DeliveryState::try_from(number) {
            Ok(DeliveryState::Unspecified) | Err(_) => {
                return Err(invalid("filter.states", "names no state of a delivery"));
            }
            Ok(state) if states.contains(&state) => {}
            Ok(state) => states.push(state),
        }
    }
    Ok(DeliveryFilter {
        agent: decode::address(filter.agent, "filter.agent")?,
        states,
        ..DeliveryFilter::default()
    })
}

/// What is no id cannot exist.
fn delivery_id(text: &str) -> Result<DeliveryId, ServiceError> {
    if text.is_empty() {
        return Err(decode::missing("delivery_id"));
    }
    let unknown = || ServiceError::new(ErrorCode::NotFound, "this is not a delivery id of this server");
    DeliveryId::parse(text).ok_or_else(unknown)
}

fn page_token(token: &str) -> Result<Option<DeliveryId>, ServiceError> {
    if token.is_empty() {
        return Ok(None);
    }
    let unknown = || {
        invalid(
            "page_token",
            "is none of this server; take it from the page before",
        )
    };
    DeliveryId::parse(token).map(Some).ok_or_else(unknown)
}

/// The numbers of states are the same on both sides.
fn delivery(view: DeliveryView) -> v1::Delivery {
    let id = id_of(&view);
    let row = view.delivery.unwrap_or_default();
    let replay_of = id.filter(|id| id.replay > 0).map(|id| id.replayed(row.replay_of));
    let agent = row.agent.unwrap_or_default();
    let given_up = row.state == DeliveryState::Failed as i32 && row.last_error.is_empty();
    v1::Delivery {
        delivery_id: text(id),
        replay_of_delivery_id: text(replay_of),
        intent_id: id.map_or_else(String::new, |id| id.intent_id.to_string()),
        intent_type: view.intent_type,
        correlation_id: view.correlation_id,
        agent: agent.address,
        agent_id: row.service_account_id,
        callback_url: row.url,
        state: row.state,
        attempts: row.attempts,
        max_attempts: row.max_attempts,
        last_status: row.last_status,
        last_error: if given_up {
            GIVEN_UP.to_owned()
        } else {
            row.last_error
        },
        next_attempt_at_ms: row.next_attempt_at_ms,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        replays: row.replays,
    }
}

fn would_be_replayed(view: &DeliveryView) -> v1::ReplayResult {
    v1::ReplayResult {
        delivery_id: text(id_of(view)),
        ..v1::ReplayResult::default()
    }
}

fn replayed(done: Replayed) -> v1::ReplayResult {
    let (replay, refused) = match done.outcome {
        Ok(view) => (Some(delivery(view)), None),
        Err(refused) => (None, Some(failure(refused))),
    };
    v1::ReplayResult {
        delivery_id: done.delivery_id.to_string(),
        replay,
        failure: refused,
    }
}

fn text(id: Option<DeliveryId>) -> String {
    id.map_or_else(String::new, |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_states_agree() {
        for number in 0..16 {
            assert_eq!(
                DeliveryState::try_from(number).ok().map(|s| s.as_str_name()),
                v1::DeliveryState::try_from(number).ok().map(|s| s.as_str_name()),
            );
        }
    }
}
