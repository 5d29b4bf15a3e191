//! Audit events of all groups, and how far their chains have come.

use std::cmp::Reverse;

use baton_protocol::limits::{AUDIT_HEADS_MAX, LIST_PAGE_MAX};
use baton_protocol::proto::internal::{
    AuditChain, AuditChains, AuditEvent, AuditPage, AuditPlace, ListAudit, ListAuditChains, query,
    query_reply,
};
use baton_protocol::{META_GROUP, Route, ServiceError};

use super::{Caller, Service, hex, invalid, unexpected};

/// Which events.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditFilter {
    pub scope: AuditScope,
    /// Of this owner, as text.
    pub owner: Option<String>,
    pub action_prefix: String,
    /// Unix milliseconds, inclusive; 0 = no bound.
    pub since_ms: u64,
    pub until_ms: u64,
}

/// Whose events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum AuditScope {
    #[default]
    Own,
    Workspace(String),
    /// The cluster as a whole.
    Cluster,
}

/// Some events, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditEvents {
    pub events: Vec<AuditEvent>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<AuditPlace>,
}

/// Order of a list: newest first; groups by number where the time is the same.
fn order(place: &AuditPlace) -> impl Ord + use<> {
    (Reverse(place.at_ms), place.group_id, Reverse(place.sequence))
}

fn place_of(event: &AuditEvent) -> AuditPlace {
    AuditPlace {
        at_ms: event.at_ms,
        group_id: event.group_id,
        sequence: event.sequence,
    }
}

impl Service {
    /// One page of events behind `behind`. Each group is read linearizably; groups are not read at one moment.
    ///
    /// # Errors
    /// `PolicyDenied` for an agent key; `NotFound` for another workspace without an operator key.
    #[tracing::instrument(name = "audit.list", skip_all)]
    pub(crate) async fn list_audit(
        &self,
        caller: &Caller,
        filter: &AuditFilter,
        behind: Option<AuditPlace>,
        limit: u32,
    ) -> Result<AuditEvents, ServiceError> {
        let owner = self.acting_for(caller, filter.owner.as_deref()).await?;
        let query = ListAudit {
            workspace_id: workspace_id(caller, &filter.scope),
            until_ms: filter.until_ms,
            since_ms: filter.since_ms,
            owner_agent: owner.map(|owner| owner.address).unwrap_or_default(),
            action_prefix: filter.action_prefix.clone(),
            limit,
            before_sequence: 0,
        };
        let pages = self
            .ask_every_group_and_meta(|route| {
                let query = behind_place(query.clone(), route, behind.as_ref());
                self.audit_page(caller, route, query)
            })
            .await?;
        Ok(merged(pages, limit as usize))
    }

    async fn audit_page(
        &self,
        caller: &Caller,
        route: Route,
        query: ListAudit,
    ) -> Result<AuditPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let found = self.read(route, actor, query::Body::ListAudit(query)).await?;
        let query_reply::Outcome::Audit(page) = found else {
            return Err(unexpected("something else than audit events"));
        };
        Ok(page)
    }

    /// The chains of one workspace, by group; without a scope those of every workspace and of the cluster as a whole.
    ///
    /// # Errors
    /// As [`Self::list_audit`]; `InvalidArgument` when there are more chains than one answer holds.
    #[tracing::instrument(name = "audit.heads", skip_all)]
    pub(crate) async fn audit_heads(
        &self,
        caller: &Caller,
        scope: Option<&AuditScope>,
    ) -> Result<Vec<AuditChain>, ServiceError> {
        let query = ListAuditChains {
            workspace_id: scope.map(|scope| workspace_id(caller, scope)).unwrap_or_default(),
            every_workspace: scope.is_none(),
            after_workspace_id: None,
            limit: LIST_PAGE_MAX,
        };
        let groups = self
            .ask_every_group_and_meta(|route| self.chains_of(caller, route, query.clone()))
            .await?;
        let mut chains: Vec<AuditChain> = groups.into_iter().flatten().collect();
        if chains.len() > AUDIT_HEADS_MAX {
            return Err(too_many());
        }
        chains.sort_unstable_by(|a, b| (&a.workspace_id, a.group_id).cmp(&(&b.workspace_id, b.group_id)));
        Ok(chains)
    }

    /// All chains of one group that a query names.
    async fn chains_of(
        &self,
        caller: &Caller,
        route: Route,
        mut query: ListAuditChains,
    ) -> Result<Vec<AuditChain>, ServiceError> {
        let mut all = Vec::new();
        loop {
            let actor = Some(caller.actor(None, None));
            let body = query::Body::ListAuditChains(query.clone());
            let query_reply::Outcome::AuditChains(page) = self.read(route, actor, body).await? else {
                return Err(unexpected("something else than audit chains"));
            };
            let AuditChains { chains, more } = page;
            all.extend(chains);
            let Some(last) = all.last().filter(|_| more) else {
                return Ok(all);
            };
            if all.len() > AUDIT_HEADS_MAX {
                return Err(too_many());
            }
            query.after_workspace_id = Some(last.workspace_id.clone());
        }
    }
}

fn too_many() -> ServiceError {
    invalid(format!(
        "there are more than {AUDIT_HEADS_MAX} audit chains; ask for one workspace at a time"
    ))
}

fn workspace_id(caller: &Caller, scope: &AuditScope) -> String {
    match scope {
        AuditScope::Own => caller.scope.workspace_id.clone(),
        AuditScope::Workspace(id) => id.clone(),
        AuditScope::Cluster => String::new(),
    }
}

/// What one group has behind a place of the merged list.
fn behind_place(mut query: ListAudit, route: Route, behind: Option<&AuditPlace>) -> ListAudit {
    let group = match route {
        Route::Group(group) => group,
        Route::Meta | Route::Slot(_) => META_GROUP,
    };
    let Some(behind) = behind else {
        return query;
    };
    // Of a group that comes earlier in the order, all of that moment has been shown.
    let until_ms = if group.0 < behind.group_id {
        behind.at_ms.saturating_sub(1).max(1)
    } else {
        behind.at_ms
    };
    query.until_ms = if query.until_ms == 0 {
        until_ms
    } else {
        query.until_ms.min(until_ms)
    };
    if group.0 == behind.group_id {
        query.before_sequence = behind.sequence;
    }
    query
}

/// The newest of several groups' pages. What is older than the place where some group stopped is left for later: that
/// group may have more in between.
fn merged(pages: Vec<AuditPage>, limit: usize) -> AuditEvents {
    let reached = pages.iter().filter_map(|page| page.reached).min_by_key(order);
    let mut events: Vec<AuditEvent> = pages.into_iter().flat_map(|page| page.events).collect();
    if let Some(reached) = &reached {
        events.retain(|event| order(&place_of(event)) <= order(reached));
    }
    events.sort_unstable_by_key(|event| order(&place_of(event)));
    let next = if events.len() > limit {
        events.truncate(limit);
        events.last().map(place_of)
    } else {
        reached
    };
    AuditEvents { events, next }
}

/// Names an event: the first half of its hash.
pub(crate) fn event_id(event: &AuditEvent) -> String {
    let half = event.hash.len() / 2;
    format!("aud_{}", hex(&event.hash[..half]))
}

/// A place as clients carry it.
pub(crate) fn place_text(place: &AuditPlace) -> String {
    format!("{}.{}.{}", place.at_ms, place.group_id, place.sequence)
}

/// Reads [`place_text`] back.
///
/// # Errors
/// `InvalidArgument` for anything else.
pub(crate) fn parse_place(text: &str) -> Result<AuditPlace, ServiceError> {
    let mut parts = text.split('.');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let place = (|| {
        Some(AuditPlace {
            at_ms: next()?,
            group_id: u32::try_from(next()?).ok()?,
            sequence: next().filter(|sequence| *sequence > 0)?,
        })
    })();
    place
        .filter(|place| place_text(place) == text)
        .ok_or_else(|| invalid("the cursor is not one of an earlier answer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_protocol::GroupId;

    fn place((at_ms, group_id, sequence): (u64, u32, u64)) -> AuditPlace {
        AuditPlace {
            at_ms,
            group_id,
            sequence,
        }
    }

    fn page(places: &[(u64, u32, u64)], reached: Option<(u64, u32, u64)>) -> AuditPage {
        let event = |(at_ms, group_id, sequence): &(u64, u32, u64)| AuditEvent {
            at_ms: *at_ms,
            group_id: *group_id,
            sequence: *sequence,
            ..AuditEvent::default()
        };
        AuditPage {
            events: places.iter().map(event).collect(),
            reached: reached.map(place),
        }
    }

    fn shown(found: &AuditEvents) -> Vec<(u64, u32, u64)> {
        let events = found.events.iter();
        events.map(|e| (e.at_ms, e.group_id, e.sequence)).collect()
    }

    #[test]
    fn a_page_ends_where_some_group_stopped() {
        let pages = vec![
            page(&[(9, 0, 4), (9, 0, 3), (5, 0, 2)], Some((5, 0, 2))),
            page(&[(9, 1, 7), (4, 1, 6)], None),
        ];
        let found = merged(pages.clone(), 10);
        assert_eq!(shown(&found), [(9, 0, 4), (9, 0, 3), (9, 1, 7), (5, 0, 2)]);
        assert_eq!(found.next, Some(place((5, 0, 2))));
        let full = merged(pages, 2);
        assert_eq!(
            (shown(&full), full.next),
            (vec![(9, 0, 4), (9, 0, 3)], Some(place((9, 0, 3))))
        );
        let last = merged(vec![page(&[(1, 0, 1)], None), page(&[], None)], 2);
        assert_eq!(last.next, None);
    }

    #[test]
    fn each_group_goes_on_behind_the_place() {
        let behind = place((9, 1, 7));
        let bounds = |group| {
            let query = behind_place(ListAudit::default(), Route::Group(GroupId(group)), Some(&behind));
            (query.until_ms, query.before_sequence)
        };
        assert_eq!([bounds(0), bounds(1), bounds(2)], [(8, 0), (9, 7), (9, 0)]);
        let bounded = ListAudit {
            until_ms: 3,
            ..ListAudit::default()
        };
        assert_eq!(behind_place(bounded, Route::Meta, Some(&behind)).until_ms, 3);
    }

    #[test]
    fn places_read_back_and_nothing_else_does() {
        let text = place_text(&place((9, 1, 7)));
        assert_eq!(parse_place(&text).unwrap(), place((9, 1, 7)));
        for bad in [
            "",
            "9",
            "9.1",
            "9.1.0",
            "9.1.7.1",
            "+9.1.7",
            "a.b.c",
            "9.99999999999.1",
        ] {
            assert!(parse_place(bad).is_err(), "{bad}");
        }
    }
}
