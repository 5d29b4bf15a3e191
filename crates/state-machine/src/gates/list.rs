//! Open human tasks of a workspace. Ids sort by time, so an id is the cursor, across slots and groups alike.

use super::find_open;
use crate::intents;
use crate::keys;
use crate::query::page;
use crate::rows;
use crate::tables::{TableError, Tables};
use crate::transaction::{Stop, invalid, not_found};
use crate::visibility;
use baton_protocol::proto::internal::{Actor, ListTasks, OpenTask, TaskPage};
use baton_protocol::{IntentId, Slot, limits};

/// One page: tasks that the actor may answer, oldest intent first.
pub(crate) fn list(tables: &dyn Tables, actor: Option<&Actor>, q: &ListTasks) -> Result<TaskPage, Stop> {
    if q.workspace_id.is_empty() || !visibility::belongs_to(actor, &q.workspace_id) {
        return Err(not_found("workspace"));
    }
    let after = match q.after_intent_id.as_ref() {
        [] => None,
        bytes => {
            Some(IntentId::from_slice(bytes).ok_or_else(|| invalid("after_intent_id must have 16 bytes"))?)
        }
    };
    let limit = page(q.limit, limits::TASKS_PAGE_MAX, limits::TASKS_PAGE_MAX);
    let mut ids = ids_after(tables, &q.workspace_id, after, limit + 1)?;
    let mut found = TaskPage::default();
    if ids.len() > limit {
        ids.truncate(limit);
        found.reached_intent_id = ids.last().map(|id| id.to_bytes()).unwrap_or_default();
    }
    for id in ids {
        let Some(intent) = intents::intent(tables, id)? else {
            continue;
        };
        if let Some(gate) = find_open(tables, id, &intent)?
            && visibility::may_answer(actor, &intent, &gate)
        {
            found.tasks.push(OpenTask {
                intent: Some(intent),
                gate: Some(gate),
            });
        }
    }
    Ok(found)
}

/// The lowest `limit` intents with an open task above `after`, of every slot.
fn ids_after(
    tables: &dyn Tables,
    workspace_id: &str,
    after: Option<IntentId>,
    limit: usize,
) -> Result<Vec<IntentId>, TableError> {
    let mut ids: Vec<IntentId> = Vec::new();
    let mut next = Some(Slot::from_bits(0));
    while let Some(from) = next {
        let first = rows::list(tables, &keys::open_tasks_from(from), 1)?;
        let Some(slot) = first
            .first()
            .and_then(|(key, _)| keys::open_task_of(key))
            .map(IntentId::slot)
        else {
            break;
        };
        let mut range = keys::open_tasks(workspace_id, slot);
        if let Some(after) = after {
            range.from.extend_from_slice(after.as_bytes());
            range.from.push(0);
        }
        let rows = rows::list(tables, &range, limit)?;
        ids.extend(rows.iter().filter_map(|(key, _)| keys::open_task_of(key)));
        ids.sort_unstable();
        ids.truncate(limit);
        next = Slot::new(slot.number() + 1).ok();
    }
    Ok(ids)
}
