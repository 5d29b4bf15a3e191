//! Deliveries by HTTP push: what became of them, and replays.

use baton_protocol::proto::internal::{
    AgentRef, DeliveryPage, DeliveryState, DeliveryView, GetDelivery, KeyKind, ListDeliveries,
    ReplayDelivery, command, query, query_reply, reply,
};
use baton_protocol::{DeliveryId, ErrorCode, Route, ServiceError};
use futures::stream::{self, StreamExt as _};
use std::cmp::Reverse;

use super::idempotency::claim;
use super::{Caller, Failure, IdempotencyRequest, Service, unexpected};

/// Page of a list when none is asked for.
pub(crate) const DELIVERIES_DEFAULT: u32 = 200;
/// Deliveries that one bulk replay takes when no number is asked for.
pub(crate) const REPLAYS_DEFAULT: u32 = 100;
/// Replay takes what is over; what is pending comes by itself.
pub(crate) const REPLAYABLE: [DeliveryState; 3] = [
    DeliveryState::DeadLettered,
    DeliveryState::Failed,
    DeliveryState::Delivered,
];
/// What is shown as the reason of a delivery that was given up with attempts left.
pub(crate) const GIVEN_UP: &str = "the intent ended or went to another agent before the endpoint took it";
/// Replays of a bulk call that are under way at one time.
const REPLAYS_AT_ONCE: usize = 64;
/// Pages that one bulk call reads while it finds nothing.
const EMPTY_PAGES_MAX: usize = 8;

/// Which deliveries.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryFilter {
    pub org_id: Option<String>,
    pub workspace_id: Option<String>,
    /// Of this agent, as text.
    pub agent: Option<String>,
    /// Of this account; empty = all.
    pub service_account_id: String,
    /// Any of these; empty = all.
    pub states: Vec<DeliveryState>,
}

/// Some deliveries, newest intent first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries {
    pub deliveries: Vec<DeliveryView>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<DeliveryId>,
}

/// What became of one delivery of a bulk replay.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub delivery_id: DeliveryId,
    pub outcome: Result<DeliveryView, Failure>,
}

impl Service {
    /// One page behind `behind`. Each group is read linearizably; groups are not read at one moment.
    #[tracing::instrument(name = "delivery.list", skip_all)]
    pub(crate) async fn list_deliveries(
        &self,
        caller: &Caller,
        filter: &DeliveryFilter,
        behind: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Deliveries, ServiceError> {
        let (org_id, workspace_id) = (filter.org_id.as_deref(), filter.workspace_id.as_deref());
        let scope = self.managed_scope(caller, org_id, workspace_id).await?;
        let agent: Option<AgentRef> = match &filter.agent {
            Some(_) => self.acting_for(caller, filter.agent.as_deref()).await?,
            None if caller.kind() == KeyKind::Agent => Some(caller.own_address()),
            None => None,
        };
        let query = ListDeliveries {
            workspace_id: scope.workspace_id,
            service_account_id: filter.service_account_id.clone(),
            states: filter.states.iter().map(|s| (*s).into()).collect(),
            behind: behind.map(DeliveryId::to_key),
            agent,
            limit,
        };
        let pages = self
            .ask_every_group(|route| self.delivery_page(caller, route, query.clone()))
            .await?;
        Ok(merged(pages, limit as usize))
    }

    async fn delivery_page(
        &self,
        caller: &Caller,
        route: Route,
        query: ListDeliveries,
    ) -> Result<DeliveryPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let found = self
            .read(route, actor, query::Body::ListDeliveries(query))
            .await?;
        let query_reply::Outcome::Deliveries(page) = found else {
            return Err(unexpected("something else than deliveries"));
        };
        Ok(page)
    }

    /// One delivery.
    pub(crate) async fn get_delivery(
        &self,
        caller: &Caller,
        id: DeliveryId,
    ) -> Result<DeliveryView, ServiceError> {
        let home = Route::Slot(id.intent_id.slot());
        match self.delivery_in(caller, home, id).await? {
            Some(view) => Ok(view),
            None => Ok(self.delivery_elsewhere(caller, id).await?.1),
        }
    }

    async fn delivery_in(
        &self,
        caller: &Caller,
        route: Route,
        id: DeliveryId,
    ) -> Result<Option<DeliveryView>, ServiceError> {
        let query = query::Body::GetDelivery(GetDelivery {
            delivery: Some(id.to_key()),
        });
        let actor = Some(caller.actor(None, None));
        match self.read(route, actor, query).await {
            Ok(query_reply::Outcome::Delivery(view)) => Ok(Some(view)),
            Ok(_) => Err(unexpected("something else than a delivery")),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A delivery that the group of its intent does not know: that to an agent which the intent was handed to.
    async fn delivery_elsewhere(
        &self,
        caller: &Caller,
        id: DeliveryId,
    ) -> Result<(Route, DeliveryView), ServiceError> {
        let found = self
            .find_in_groups(|route| async move {
                let found = self.delivery_in(caller, route, id).await?;
                Ok(found.map(|view| (route, view)))
            })
            .await?;
        found.ok_or_else(|| ServiceError::new(ErrorCode::NotFound, "delivery not found"))
    }

    /// Posts a delivery once more, under an id of its own. Returns when that is planned.
    pub(crate) async fn replay_delivery(
        &self,
        caller: &Caller,
        id: DeliveryId,
        idempotency: Option<&IdempotencyRequest>,
    ) -> Result<DeliveryView, Failure> {
        let body = command::Body::ReplayDelivery(ReplayDelivery {
            actor: Some(caller.audited_actor(None, None)),
            delivery: Some(id.to_key()),
            idempotency: idempotency.map(|r| claim(caller, r)),
        });
        let home = Route::Slot(id.intent_id.slot());
        match self.replay_in(home, body.clone()).await {
            Err(failure) if failure.error.code == ErrorCode::NotFound => {
                let (route, _) = self.delivery_elsewhere(caller, id).await?;
                self.replay_in(route, body).await
            }
            answer => answer,
        }
    }

    async fn replay_in(&self, route: Route, body: command::Body) -> Result<DeliveryView, Failure> {
        let reply = self.ports.proposer.propose(route, body).await?;
        match reply.outcome {
            Some(reply::Outcome::Delivery(view)) => Ok(view),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a delivery").into()),
        }
    }

    /// Deliveries for a bulk replay: intents' own ones, unless asked otherwise only those never replayed before.
    pub(crate) async fn replayable(
        &self,
        caller: &Caller,
        filter: &DeliveryFilter,
        behind: Option<DeliveryId>,
        limit: u32,
        again: bool,
    ) -> Result<Deliveries, ServiceError> {
        let mut found = Deliveries {
            next: behind,
            ..Deliveries::default()
        };
        for _ in 0..EMPTY_PAGES_MAX {
            let missing = limit - found.deliveries.len() as u32;
            let page = self.list_deliveries(caller, filter, found.next, missing).await?;
            let fits = |view: &DeliveryView| {
                let row = view.delivery.as_ref();
                row.is_some_and(|row| {
                    row.key.as_ref().is_some_and(|key| key.replay == 0) && (again || row.replays == 0)
                })
            };
            found.deliveries.extend(page.deliveries.into_iter().filter(fits));
            found.next = page.next;
            if found.next.is_none() || found.deliveries.len() as u32 >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Replays each of `deliveries`; one outcome per delivery, in their order.
    #[tracing::instrument(name = "delivery.bulk_replay", skip_all, fields(deliveries = deliveries.len()))]
    pub(crate) async fn replay_all(&self, caller: &Caller, deliveries: &[DeliveryView]) -> Vec<Replayed> {
        let ids: Vec<_> = deliveries.iter().filter_map(id_of).collect();
        stream::iter(ids)
            .map(|delivery_id| async move {
                Replayed {
                    outcome: self.replay_delivery(caller, delivery_id, None).await,
                    delivery_id,
                }
            })
            .buffered(REPLAYS_AT_ONCE)
            .collect()
            .await
    }
}

/// The id of a delivery that was read.
pub(crate) fn id_of(view: &DeliveryView) -> Option<DeliveryId> {
    DeliveryId::of(view.delivery.as_ref()?.key.as_ref()?)
}

/// Where a delivery stands in lists: newest intent first.
fn place(id: DeliveryId) -> impl Ord {
    (Reverse(*id.intent_id.as_bytes()), id.agent_hash, id.replay)
}

/// The first of several groups' pages. What is behind the place where some group stopped is left for later: that
/// group may have more in between.
fn merged(pages: Vec<DeliveryPage>, limit: usize) -> Deliveries {
    let stopped = |page: &DeliveryPage| page.reached.as_ref().and_then(DeliveryId::of);
    let reached = pages.iter().filter_map(stopped).min_by_key(|id| place(*id));
    let views = pages.into_iter().flat_map(|page| page.deliveries);
    let mut placed: Vec<_> = views.filter_map(|view| Some((id_of(&view)?, view))).collect();
    if let Some(reached) = reached {
        placed.retain(|(id, _)| place(*id) <= place(reached));
    }
    placed.sort_unstable_by_key(|(id, _)| place(*id));
    let next = if placed.len() > limit {
        placed.truncate(limit);
        placed.last().map(|(id, _)| *id)
    } else {
        reached
    };
    Deliveries {
        deliveries: placed.into_iter().map(|(_, view)| view).collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::proto::internal::Delivery;
    use baton_protocol::{IntentId, Slot};

    fn id(n: u64, replay: u32) -> DeliveryId {
        DeliveryId::new(IntentId::new(n, Slot::from_bits(1), 0), "agent").replayed(replay)
    }

    fn page(ids: &[(u64, u32)], reached: Option<(u64, u32)>) -> DeliveryPage {
        let view = |(n, replay): &(u64, u32)| DeliveryView {
            delivery: Some(Delivery {
                key: Some(id(*n, *replay).to_key()),
                ..Delivery::default()
            }),
            ..DeliveryView::default()
        };
        DeliveryPage {
            deliveries: ids.iter().map(view).collect(),
            reached: reached.map(|(n, replay)| id(n, replay).to_key()),
        }
    }

    #[test]
    fn a_page_ends_where_some_group_stopped() {
        let pages = vec![
            page(&[(9, 0), (9, 1), (5, 0)], Some((5, 0))),
            page(&[(8, 0), (2, 0)], None),
        ];
        let found = merged(pages.clone(), 10);
        let shown = |found: &Deliveries| found.deliveries.iter().filter_map(id_of).collect::<Vec<_>>();
        assert_eq!(shown(&found), [id(9, 0), id(9, 1), id(8, 0), id(5, 0)]);
        assert_eq!(found.next, Some(id(5, 0)));
        let full = merged(pages, 2);
        assert_eq!(
            (shown(&full), full.next),
            (vec![id(9, 0), id(9, 1)], Some(id(9, 1)))
        );
        let last = merged(vec![page(&[(1, 0)], None), page(&[], None)], 2);
        assert_eq!((shown(&last), last.next), (vec![id(1, 0)], None));
    }
}
