//! Deliveries by HTTP push: what became of them, and posting them again.

use crate::client::{Safety, unary};
use crate::submit::draw_key;
use crate::types::{BulkReplay, Delivery, DeliveryFilter, DeliveryPage, Replay};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::delivery_service_client::DeliveryServiceClient;

/// What a bulk replay takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayMany {
    pub filter: DeliveryFilter,
    /// Only say which they would be.
    pub dry_run: bool,
    /// Also those that were replayed before.
    pub include_replayed: bool,
    /// 0 = the server's default.
    pub limit: u32,
    /// The `next` of the answer before.
    pub token: Option<String>,
}

impl Client {
    /// One page of deliveries, newest intent first; `token` is the `next` of the page before, `page_size` 0 = the
    /// server's default.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn deliveries(
        &self,
        filter: DeliveryFilter,
        page_size: u32,
        token: Option<&str>,
    ) -> Result<DeliveryPage, Error> {
        let request = v1::ListDeliveriesRequest {
            filter: Some(filter.into_wire()),
            page_size,
            page_token: token.unwrap_or_default().to_owned(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            DeliveryServiceClient.list_deliveries(request)
        )?;
        Ok(DeliveryPage {
            deliveries: answer.deliveries.into_iter().map(Delivery::from_wire).collect(),
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// One delivery.
    ///
    /// # Errors
    /// `not_found`, and what any call gives.
    pub async fn delivery(&self, delivery_id: &str) -> Result<Delivery, Error> {
        let request = v1::GetDeliveryRequest {
            delivery_id: delivery_id.to_owned(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            DeliveryServiceClient.get_delivery(request)
        )?;
        required(answer.delivery)
    }

    /// Posts a delivery once more, under an id of its own; returns when that is planned.
    ///
    /// # Errors
    /// `not_found`, `conflict` while it is pending, and what any call gives.
    pub async fn replay_delivery(&self, delivery_id: &str) -> Result<Delivery, Error> {
        let request = v1::ReplayDeliveryRequest {
            delivery_id: delivery_id.to_owned(),
            idempotency_key: draw_key(),
        };
        let answer = unary!(
            self,
            Safety::Repeatable,
            DeliveryServiceClient.replay_delivery(request)
        )?;
        required(answer.delivery)
    }

    /// Replays everything that the filter names, a bounded number at a time.
    ///
    /// # Errors
    /// What any call gives; what became of each delivery is in the answer.
    pub async fn replay_deliveries(&self, many: ReplayMany) -> Result<BulkReplay, Error> {
        // Repeated, it would replay again what it was told to replay again.
        let safety = if many.include_replayed && !many.dry_run {
            Safety::Once
        } else {
            Safety::Repeatable
        };
        let request = v1::ReplayDeliveriesRequest {
            filter: Some(many.filter.into_wire()),
            dry_run: many.dry_run,
            include_replayed: many.include_replayed,
            limit: many.limit,
            page_token: many.token.unwrap_or_default(),
        };
        let answer = unary!(self, safety, DeliveryServiceClient.replay_deliveries(request))?;
        let results = answer.results.into_iter().map(|result| Replay {
            delivery_id: result.delivery_id,
            replay: result.replay.map(Delivery::from_wire),
            error: result.failure.map(Error::from_failure),
        });
        Ok(BulkReplay {
            results: results.collect(),
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        })
    }
}

fn required(delivery: Option<v1::Delivery>) -> Result<Delivery, Error> {
    delivery
        .map(Delivery::from_wire)
        .ok_or_else(|| Error::Unexpected("the delivery is missing".into()))
}
