//! Lists of intents, newest first. Ids sort by time, so an id is the cursor, across slots and groups alike.

use crate::intents;
use crate::keys;
use crate::query::{log_time_ms, page, require_agent, require_reader};
use crate::rows;
use crate::tables::{TableError, Tables, prefix_end};
use crate::transaction::{Stop, invalid, reject};
use crate::visibility;
use baton_protocol::proto::internal::{Actor, AgentRef, Intent, IntentPage, KeyKind, ListIntents};
use baton_protocol::{ErrorCode, IntentId, Slot, limits};
use std::ops::ControlFlow;

/// Rows that one page looks at; a page that ends here is short and says where it stopped.
pub(crate) const SCAN_ROWS_MAX: usize = 8_192;
/// Index rows read at a time.
pub(crate) const CHUNK_ROWS: usize = 256;
/// How far the time in an id, a gateway's, may be from the log time of its commit.
const MINTING_SKEW_MS: u64 = 60_000;
/// First stretch of time that is looked at, back from the newest intent.
const FIRST_WINDOW_MS: u64 = 1_000;
/// Each further stretch is this many times longer.
const WINDOW_GROWTH: u64 = 16;
/// Ids carry 48 bits of time.
const TIME_END_MS: u64 = 1 << 48;

/// One page.
pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListIntents) -> Result<IntentPage, Stop> {
    let before = match q.before_intent_id.as_ref() {
        [] => None,
        bytes => {
            Some(IntentId::from_slice(bytes).ok_or_else(|| invalid("before_intent_id must have 16 bytes"))?)
        }
    };
    let mut collect = Collect {
        tables,
        q,
        limit: page(q.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX),
        looked_at: 0,
        page: IntentPage::default(),
    };
    match &q.to_agent {
        Some(agent) => {
            let agent = require_agent(Some(agent))?;
            require_reader(actor, agent)?;
            sent_to(&mut collect, agent, before)?;
        }
        None => {
            require_workspace(actor, &q.workspace_id)?;
            of_workspace(&mut collect, before)?;
        }
    }
    Ok(collect.page)
}

pub(crate) fn require_workspace(actor: Option<&Actor>, workspace_id: &str) -> Result<(), Stop> {
    let allowed = match actor.map(Actor::kind) {
        None | Some(KeyKind::Operator) => true,
        Some(KeyKind::Workspace) => visibility::belongs_to(actor, workspace_id),
        Some(KeyKind::Agent | KeyKind::Unspecified) => false,
    };
    if allowed && !workspace_id.is_empty() {
        Ok(())
    } else {
        Err(reject(
            ErrorCode::PolicyDenied,
            "only a key of this workspace lists all of its intents; name an agent",
        ))
    }
}

/// A page under way.
struct Collect<'a> {
    tables: &'a dyn Tables,
    q: &'a ListIntents,
    limit: usize,
    looked_at: usize,
    page: IntentPage,
}

impl Collect<'_> {
    /// Looks at one intent; `Break` when the page is over, with `id` as the place where it stopped.
    fn look(&mut self, id: IntentId) -> Result<ControlFlow<()>, TableError> {
        self.looked_at += 1;
        if let Some(intent) = intents::intent(self.tables, id)?
            && self.matches(&intent)
        {
            self.page.intents.push(intent);
        }
        if self.page.intents.len() < self.limit && self.looked_at < SCAN_ROWS_MAX {
            return Ok(ControlFlow::Continue(()));
        }
        self.page.reached_intent_id = id.to_bytes();
        Ok(ControlFlow::Break(()))
    }

    fn matches(&self, intent: &Intent) -> bool {
        let q = self.q;
        let text = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        // An agent's index also holds what was handed to it.
        let named = |a: &AgentRef| intent.to_agent.as_ref().is_some_and(|to| to.key == a.key);
        let ours = q.to_agent.as_ref().is_some_and(named)
            || (q.to_agent.is_none()
                && (intent.workspace_id == q.workspace_id
                    || intent
                        .to_agent
                        .as_ref()
                        .is_some_and(|a| a.workspace_id == q.workspace_id)));
        ours && (q.statuses.is_empty() || q.statuses.contains(&intent.status))
            && text(&q.intent_type, &intent.intent_type)
            && text(&q.correlation_id, &intent.correlation_id)
            && intent.created_at_ms >= q.created_from_ms
            && (q.created_until_ms == 0 || intent.created_at_ms <= q.created_until_ms)
    }
}

/// By the index of what an agent was sent.
fn sent_to(collect: &mut Collect<'_>, agent: &AgentRef, before: Option<IntentId>) -> Result<(), TableError> {
    let mut range = keys::recipients(agent);
    if let Some(before) = before {
        range.from = after(keys::recipient(agent, before));
    }
    loop {
        let rows = rows::list(collect.tables, &range, CHUNK_ROWS)?;
        for (key, _) in &rows {
            if let Some(id) = keys::recipient_intent(key)
                && collect.look(id)?.is_break()
            {
                return Ok(());
            }
        }
        match rows.into_iter().nth(CHUNK_ROWS - 1) {
            Some((last, _)) => range.from = after(last),
            None => return Ok(()),
        }
    }
}

/// The first key behind this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// By the intents of every slot, in stretches of time that reach further and further back: rows are ordered by
/// slot, then id.
fn of_workspace(collect: &mut Collect<'_>, before: Option<IntentId>) -> Result<(), TableError> {
    let slots = slots(collect.tables)?;
    let q = collect.q;
    let first = q.created_from_ms.saturating_sub(MINTING_SKEW_MS);
    let mut end = before.map_or(TIME_END_MS, |id| id.unix_ms() + 1);
    if q.created_until_ms != 0 {
        end = end.min(q.created_until_ms.saturating_add(MINTING_SKEW_MS));
    }
    let mut window = FIRST_WINDOW_MS;
    let mut newest = log_time_ms(collect.tables)?.saturating_add(1);
    while first < end {
        newest = newest.min(end);
        let start = newest.saturating_sub(window).max(first).min(end - 1);
        // One millisecond is never too much.
        let rows_max = if window > 1 { SCAN_ROWS_MAX } else { usize::MAX };
        let Some(mut ids) = ids_between(collect.tables, &slots, start, end, rows_max)? else {
            window = (window / WINDOW_GROWTH).max(1);
            continue;
        };
        ids.sort_unstable_by(|a, b| b.cmp(a));
        for id in ids {
            if before.is_none_or(|before| id < before) && collect.look(id)?.is_break() {
                return Ok(());
            }
        }
        end = start;
        window = window.saturating_mul(WINDOW_GROWTH);
    }
    Ok(())
}

/// Slots that hold intents.
fn slots(tables: &dyn Tables) -> Result<Vec<Slot>, TableError> {
    let mut found: Vec<Slot> = Vec::new();
    let mut next = Some(Slot::from_bits(0));
    while let Some(slot) = next {
        let from = slot_prefix(slot);
        let to = prefix_end(from.get(..1).unwrap_or_default());
        let mut number = None;
        tables.scan(&from, &to, &mut |key, _| {
            number = key
                .get(1..3)
                .and_then(|part| <[u8; 2]>::try_from(part).ok())
                .map(u16::from_be_bytes);
            ControlFlow::Break(())
        })?;
        next = number.and_then(|number| {
            found.push(Slot::from_bits(number));
            Slot::new(number + 1).ok()
        });
    }
    Ok(found)
}

/// What the intents of a slot begin with: tag and slot.
fn slot_prefix(slot: Slot) -> Vec<u8> {
    let mut key = keys::intent(IntentId::new(0, slot, 0));
    key.truncate(3);
    key
}

/// Ids minted in `start..end`; `None` when there are more than `rows_max`.
fn ids_between(
    tables: &dyn Tables,
    slots: &[Slot],
    start: u64,
    end: u64,
    rows_max: usize,
) -> Result<Option<Vec<IntentId>>, TableError> {
    let mut ids = Vec::new();
    for slot in slots {
        let from = keys::intent(IntentId::new(start, *slot, 0));
        let to = if end < TIME_END_MS {
            keys::intent(IntentId::new(end, *slot, 0))
        } else {
            prefix_end(&slot_prefix(*slot))
        };
        tables.scan(&from, &to, &mut |key, _| {
            ids.extend(key.get(3..).and_then(IntentId::from_slice));
            if ids.len() > rows_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if ids.len() > rows_max {
            return Ok(None);
        }
    }
    Ok(Some(ids))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, actor, agent, submit};
    use baton_protocol::address::slot_of;
    use baton_protocol::proto::internal::command::Body as Run;
    use baton_protocol::proto::internal::query::Body;
    use baton_protocol::proto::internal::query_reply::Outcome;
    use baton_protocol::proto::internal::{
        Intent, IntentPage, KeyKind, ListIntents, ResolveIntent, Status, SubmitIntent,
    };
    use baton_protocol::{ErrorCode, IntentId};

    const AGENTS: [&str; 3] = ["worker", "helper", "other"];

    /// Intents to three agents, minted from now back over half a year.
    fn filled(count: u64) -> Replica {
        let mut replica = Replica::new(1, 1);
        for n in 0..count {
            let name = AGENTS[(n % 3) as usize];
            let age_ms = n * n * n;
            let id = IntentId::new(replica.now_ms.saturating_sub(age_ms), slot_of(&agent(name)), n);
            replica.run(Run::Submit(SubmitIntent {
                intent_id: id.to_bytes(),
                ..submit(name, n)
            }));
        }
        replica
    }

    fn page(replica: &Replica, q: ListIntents) -> IntentPage {
        let caller = actor(KeyKind::Workspace, "sender");
        let Outcome::Intents(page) = replica.ask_as(Some(caller), Body::ListIntents(q)) else {
            panic!("refused")
        };
        page
    }

    /// Every page of a list, put together.
    fn all(replica: &Replica, q: &ListIntents) -> Vec<Intent> {
        let mut found = Vec::new();
        let mut before_intent_id = bytes::Bytes::new();
        loop {
            let next = page(
                replica,
                ListIntents {
                    before_intent_id,
                    ..q.clone()
                },
            );
            assert!(next.intents.len() <= q.limit as usize);
            found.extend(next.intents);
            before_intent_id = next.reached_intent_id;
            if before_intent_id.is_empty() {
                return found;
            }
        }
    }

    fn workspace() -> ListIntents {
        ListIntents {
            workspace_id: actor(KeyKind::Workspace, "sender").workspace_id,
            limit: 7,
            ..ListIntents::default()
        }
    }

    #[test]
    fn pages_of_a_workspace_hold_everything_newest_first() {
        let replica = filled(200);
        let found = all(&replica, &workspace());
        assert_eq!(found.len(), 200);
        assert!(found.windows(2).all(|pair| pair[0].intent_id > pair[1].intent_id));
        let to = ListIntents {
            to_agent: Some(agent("helper")),
            ..workspace()
        };
        let found = all(&replica, &to);
        assert_eq!(found.len(), 67);
        assert!(found.windows(2).all(|pair| pair[0].intent_id > pair[1].intent_id));
    }

    #[test]
    fn filters_hold_together() {
        let mut replica = filled(30);
        let some = all(&replica, &workspace()).swap_remove(3);
        replica.run(Run::Resolve(ResolveIntent {
            intent_id: some.intent_id.clone(),
            status: Status::Canceled.into(),
            ..ResolveIntent::default()
        }));
        let canceled = ListIntents {
            statuses: vec![Status::Canceled.into(), Status::Failed.into()],
            ..workspace()
        };
        let found = all(&replica, &canceled);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].intent_id, some.intent_id);
        for nothing in [
            ListIntents {
                intent_type: "no.such.v1".into(),
                ..workspace()
            },
            ListIntents {
                correlation_id: "x".into(),
                ..workspace()
            },
            ListIntents {
                created_until_ms: 1,
                ..workspace()
            },
            ListIntents {
                created_from_ms: u64::MAX,
                ..workspace()
            },
        ] {
            assert!(all(&replica, &nothing).is_empty(), "{nothing:?}");
        }
        let q = ListIntents {
            created_from_ms: some.created_at_ms,
            ..workspace()
        };
        assert!(!all(&replica, &q).is_empty());
    }

    #[test]
    fn only_who_may_read_lists() {
        let replica = filled(3);
        let refused = |kind, name: &str, q| {
            let answer = replica.ask_as(Some(actor(kind, name)), Body::ListIntents(q));
            let Outcome::Rejected(rejection) = answer else {
                panic!("answered")
            };
            ErrorCode::from_number(rejection.code)
        };
        assert_eq!(
            refused(KeyKind::Agent, "worker", workspace()),
            ErrorCode::PolicyDenied
        );
        let others = ListIntents {
            workspace_id: "w2".into(),
            ..workspace()
        };
        assert_eq!(
            refused(KeyKind::Workspace, "sender", others),
            ErrorCode::PolicyDenied
        );
        let helpers = ListIntents {
            to_agent: Some(agent("helper")),
            ..workspace()
        };
        assert_eq!(
            refused(KeyKind::Agent, "worker", helpers),
            ErrorCode::PolicyDenied
        );
    }
}
