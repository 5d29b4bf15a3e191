//! Lists of intents, and changes to many at once.

use baton_protocol::address::slot_of;
use baton_protocol::proto::internal::{
    AgentRef, Backlog, GetBacklog, Intent, IntentPage, ListIntents, Status, query, query_reply,
};
use baton_protocol::{IntentId, Route, ServiceError};
use futures::stream::{self, StreamExt as _};

use super::{Caller, Change, Failure, Resolve, Service, unexpected};

/// Intents of a bulk change that are under way at one time.
const CHANGES_AT_ONCE: usize = 64;
/// Pages that one bulk change reads while it finds nothing.
const EMPTY_PAGES_MAX: usize = 8;

/// Which intents.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntentFilter {
    /// Sent to this agent, as text; absent = the whole workspace of the caller.
    pub to_agent: Option<String>,
    /// Any of these; empty = all.
    pub statuses: Vec<Status>,
    pub intent_type: String,
    pub correlation_id: String,
    /// Unix milliseconds, inclusive; 0 = no bound.
    pub created_from_ms: u64,
    pub created_until_ms: u64,
}

/// Some intents, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intents {
    pub intents: Vec<Intent>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<IntentId>,
}

/// Ends many intents at once, as CANCELED.
#[derive(Debug, Clone)]
pub(crate) struct BulkCancel {
    pub filter: IntentFilter,
    /// Intents at most, oldest not first: as a list shows them.
    pub limit: u32,
    /// Only say what it would be.
    pub dry_run: bool,
    pub change: Change,
}

/// What became of a bulk change.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub outcomes: Vec<BulkOutcome>,
    /// The filter names further ones.
    pub more: bool,
}

/// What became of one intent of a bulk change.
#[derive(Debug)]
pub(crate) struct BulkOutcome {
    pub intent_id: bytes::Bytes,
    pub failure: Option<Failure>,
}

impl Service {
    /// One page of intents with ids below `before`. Each group is read linearizably; groups are not read at one
    /// moment.
    #[tracing::instrument(name = "intent.list", skip_all)]
    pub(crate) async fn list_intents(
        &self,
        caller: &Caller,
        filter: &IntentFilter,
        before: Option<IntentId>,
        limit: u32,
    ) -> Result<Intents, ServiceError> {
        let to_agent: Option<AgentRef> = self.acting_for(caller, filter.to_agent.as_deref()).await?;
        let query = ListIntents {
            to_agent,
            workspace_id: caller.scope.workspace_id.clone(),
            statuses: filter.statuses.iter().map(|s| (*s).into()).collect(),
            intent_type: filter.intent_type.clone(),
            correlation_id: filter.correlation_id.clone(),
            created_from_ms: filter.created_from_ms,
            created_until_ms: filter.created_until_ms,
            before_intent_id: before.map(IntentId::to_bytes).unwrap_or_default(),
            limit,
        };
        let pages = match &query.to_agent {
            Some(agent) => {
                let route = Route::Slot(slot_of(agent));
                vec![self.intent_page(caller, route, query).await?]
            }
            None => {
                self.ask_every_group(|route| self.intent_page(caller, route, query.clone()))
                    .await?
            }
        };
        Ok(merged(pages, limit as usize))
    }

    async fn intent_page(
        &self,
        caller: &Caller,
        route: Route,
        query: ListIntents,
    ) -> Result<IntentPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let found = self.read(route, actor, query::Body::ListIntents(query)).await?;
        let query_reply::Outcome::Intents(page) = found else {
            return Err(unexpected("something else than intents"));
        };
        Ok(page)
    }

    /// The open intents that a filter names, at most `limit`.
    async fn open_intents(
        &self,
        caller: &Caller,
        mut filter: IntentFilter,
        limit: u32,
    ) -> Result<Intents, ServiceError> {
        if filter.statuses.is_empty() {
            filter.statuses = Status::ALL.to_vec();
        }
        filter
            .statuses
            .retain(|s| !s.is_terminal() && *s != Status::Unspecified);
        let mut found = Intents::default();
        if filter.statuses.is_empty() {
            return Ok(found);
        }
        for _ in 0..EMPTY_PAGES_MAX {
            let missing = limit - found.intents.len() as u32;
            let page = self.list_intents(caller, &filter, found.next, missing).await?;
            found.intents.extend(page.intents);
            found.next = page.next;
            if found.next.is_none() || found.intents.len() as u32 >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Ends what the filter names, or says what that would be.
    pub(crate) async fn bulk_cancel(&self, caller: &Caller, bulk: BulkCancel) -> Result<Bulk, ServiceError> {
        let found = self.open_intents(caller, bulk.filter, bulk.limit).await?;
        let more = found.next.is_some();
        let outcomes = if bulk.dry_run {
            let would = |intent: Intent| BulkOutcome {
                intent_id: intent.intent_id,
                failure: None,
            };
            found.intents.into_iter().map(would).collect()
        } else {
            let resolve = Resolve::canceled();
            self.resolve_all(caller, found.intents, &resolve, &bulk.change)
                .await
        };
        Ok(Bulk { outcomes, more })
    }

    /// Ends each of `intents` as the caller; one outcome per intent, in their order.
    #[tracing::instrument(name = "intent.bulk", skip_all, fields(intents = intents.len()))]
    async fn resolve_all(
        &self,
        caller: &Caller,
        intents: Vec<Intent>,
        resolve: &Resolve,
        change: &Change,
    ) -> Vec<BulkOutcome> {
        let one = |intent: Intent| async move {
            let failure = match IntentId::from_slice(&intent.intent_id) {
                Some(id) => self
                    .resolve(caller, id, resolve.clone(), change.clone())
                    .await
                    .err(),
                None => Some(unexpected("an intent without an id").into()),
            };
            BulkOutcome {
                intent_id: intent.intent_id,
                failure,
            }
        };
        stream::iter(intents)
            .map(one)
            .buffered(CHANGES_AT_ONCE)
            .collect()
            .await
    }

    /// What waits for an agent.
    pub(crate) async fn backlog(&self, caller: &Caller, agent: AgentRef) -> Result<Backlog, ServiceError> {
        let route = Route::Slot(slot_of(&agent));
        let query = query::Body::GetBacklog(GetBacklog { agent: Some(agent) });
        let found = self.read(route, Some(caller.actor(None, None)), query).await?;
        let query_reply::Outcome::Backlog(backlog) = found else {
            return Err(unexpected("something else than a backlog"));
        };
        Ok(backlog)
    }
}

/// The newest of several groups' pages. What is older than the place where some group stopped is left for later: that
/// group may have more in between.
fn merged(pages: Vec<IntentPage>, limit: usize) -> Intents {
    let stopped = |page: &IntentPage| IntentId::from_slice(&page.reached_intent_id);
    let reached = pages.iter().filter_map(stopped).max();
    let mut intents: Vec<Intent> = pages.into_iter().flat_map(|page| page.intents).collect();
    if let Some(reached) = reached {
        intents.retain(|intent| intent.intent_id.as_ref() >= &reached.as_bytes()[..]);
    }
    intents.sort_unstable_by(|a, b| b.intent_id.cmp(&a.intent_id));
    let next = if intents.len() > limit {
        intents.truncate(limit);
        intents
            .last()
            .and_then(|last| IntentId::from_slice(&last.intent_id))
    } else {
        reached
    };
    Intents { intents, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::Slot;

    fn id(n: u64) -> IntentId {
        IntentId::new(n, Slot::from_bits(n as u16), 0)
    }

    fn page(ids: &[u64], reached: Option<u64>) -> IntentPage {
        IntentPage {
            intents: ids
                .iter()
                .map(|n| Intent {
                    intent_id: id(*n).to_bytes(),
                    ..Intent::default()
                })
                .collect(),
            reached_intent_id: reached.map(|n| id(n).to_bytes()).unwrap_or_default(),
        }
    }

    fn shown(found: &Intents) -> Vec<u64> {
        let ids = found.intents.iter();
        ids.map(|i| IntentId::from_slice(&i.intent_id).unwrap().unix_ms())
            .collect()
    }

    #[test]
    fn a_page_ends_where_some_group_stopped() {
        let found = merged(
            vec![page(&[9, 5], Some(5)), page(&[8, 7, 2], None), page(&[], None)],
            10,
        );
        assert_eq!((shown(&found), found.next), (vec![9, 8, 7, 5], Some(id(5))));
        let full = merged(vec![page(&[9, 5], Some(5)), page(&[8, 7], Some(7))], 2);
        assert_eq!((shown(&full), full.next), (vec![9, 8], Some(id(8))));
        let rest = merged(vec![page(&[3], None), page(&[4], None)], 2);
        assert_eq!((shown(&rest), rest.next), (vec![4, 3], None));
        // Nothing matched in what was looked at, but there is more.
        let nothing = merged(vec![page(&[], Some(6)), page(&[], Some(4))], 2);
        assert_eq!((shown(&nothing), nothing.next), (vec![], Some(id(6))));
    }
}
