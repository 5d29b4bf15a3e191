//! Human tasks: listing what waits for people, and answering it.

use baton_protocol::proto::internal::{
    AnswerTask, Gate, HumanTask, Intent, IntentView, ListTasks, OpenTask, TaskPage, command, query,
    query_reply,
};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};

use super::intents::Committed;
use super::{Caller, Change, Failure, Service, unexpected};
use crate::forms::{Checked, HandedIn, check_answer};

/// Some open tasks, oldest intent first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    pub tasks: Vec<OpenTask>,
    /// Where the next page begins; absent when there is none.
    pub next: Option<IntentId>,
}

/// Which tasks. Everything that is set must hold; empty = not set.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskFilter {
    pub assignee: String,
    pub intent_type: String,
}

impl TaskFilter {
    fn fits(&self, open: &OpenTask) -> bool {
        let task = open.gate.as_ref().and_then(|gate| gate.task.as_ref());
        let names = |task: &HumanTask| task.assignees.contains(&self.assignee);
        let of_type = |intent: &Intent| intent.intent_type == self.intent_type;
        (self.assignee.is_empty() || task.is_some_and(names))
            && (self.intent_type.is_empty() || open.intent.as_ref().is_some_and(of_type))
    }
}

impl Service {
    /// One page of the open tasks of the caller's workspace that the caller may answer, of intents above `after`. What
    /// the filter leaves out counts towards the page: it may hold fewer than `limit`, or none, and have a next one.
    #[tracing::instrument(name = "task.list", skip_all)]
    pub(crate) async fn list_tasks(
        &self,
        caller: &Caller,
        filter: &TaskFilter,
        after: Option<IntentId>,
        limit: u32,
    ) -> Result<Tasks, ServiceError> {
        let query = ListTasks {
            workspace_id: caller.scope.workspace_id.clone(),
            after_intent_id: after.map(IntentId::to_bytes).unwrap_or_default(),
            limit,
        };
        let pages = self
            .ask_every_group(|route| self.task_page(caller, route, query.clone()))
            .await?;
        let mut page = merged(pages, limit as usize);
        page.tasks.retain(|task| filter.fits(task));
        Ok(page)
    }

    async fn task_page(
        &self,
        caller: &Caller,
        route: Route,
        query: ListTasks,
    ) -> Result<TaskPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let found = self.read(route, actor, query::Body::ListTasks(query)).await?;
        let query_reply::Outcome::Tasks(page) = found else {
            return Err(unexpected("something else than tasks"));
        };
        Ok(page)
    }

    /// Answers the human task of an intent, or only the one of this `generation`; a repetition of an answer that counted
    /// gets what that one got. Nothing changes when the answer does
    /// not fit the task.
    #[tracing::instrument(name = "task.answer", skip_all, fields(intent_id = %id))]
    pub(crate) async fn answer_task(
        &self,
        caller: &Caller,
        id: IntentId,
        generation: Option<u64>,
        handed_in: HandedIn,
        change: Change,
    ) -> Result<Committed, Failure> {
        let view = self.get_intent(caller, id, false).await?;
        if let (Some(asked), Some(gate)) = (generation, &view.gate)
            && asked != gate.generation
        {
            let message = format!(
                "the task {asked} of this intent is over; its latest one is {}",
                gate.generation
            );
            let refusal = ServiceError::new(ErrorCode::Conflict, message);
            return self.repeated(caller, id, asked, change, refusal).await;
        }
        self.answer_seen(caller, id, &view, handed_in, change).await
    }

    /// [`Self::answer_task`] for an intent that was just read: the answer counts only for the task seen there.
    pub(crate) async fn answer_seen(
        &self,
        caller: &Caller,
        id: IntentId,
        view: &IntentView,
        handed_in: HandedIn,
        change: Change,
    ) -> Result<Committed, Failure> {
        let gate = view.gate.as_ref().ok_or_else(|| {
            ServiceError::new(
                ErrorCode::Conflict,
                "this intent has no human task; send task_result to one that waits for a human",
            )
        })?;
        let open = view.intent.as_ref().is_some_and(|intent| intent.gate_open);
        match checked(gate, handed_in).await {
            Ok(checked) => {
                self.propose_answer(caller, id, gate.generation, checked, change)
                    .await
            }
            // Of a task that is closed, `apply` says so, or repeats what it said to this very call before.
            Err(_) if !open => {
                let nothing = Checked::empty();
                self.propose_answer(caller, id, gate.generation, nothing, change)
                    .await
            }
            Err(refusal) => self.repeated(caller, id, gate.generation, change, refusal).await,
        }
    }

    /// What this very call got when it counted: the task may have been answered by it, and another one be open by now.
    /// `refusal` unless there is such an answer.
    async fn repeated(
        &self,
        caller: &Caller,
        id: IntentId,
        generation: u64,
        change: Change,
        refusal: ServiceError,
    ) -> Result<Committed, Failure> {
        if change.idempotency.is_none() {
            return Err(refusal.into());
        }
        let nothing = Checked::empty();
        let done = self.propose_answer(caller, id, generation, nothing, change).await;
        match done {
            Err(failure) if [refusal.code, ErrorCode::TaskResultInvalid].contains(&failure.error.code) => {
                Err(refusal.into())
            }
            done => done,
        }
    }

    async fn propose_answer(
        &self,
        caller: &Caller,
        id: IntentId,
        generation: u64,
        checked: Checked,
        change: Change,
    ) -> Result<Committed, Failure> {
        let (actor, idempotency) = self.prepare(caller, &change).await?;
        let body = command::Body::AnswerTask(AnswerTask {
            actor: Some(actor),
            intent_id: id.to_bytes(),
            generation,
            outcome: checked.outcome,
            comment: checked.comment,
            evidence: checked.evidence,
            task_result: checked.task_result,
            expected_policy_generation: change.expected_policy_generation,
            idempotency,
            link: None,
        });
        self.transition(id, body).await
    }
}

/// Checking runs a client's schema: bounded, and away from the threads that serve everybody.
pub(super) async fn checked(gate: &Gate, handed_in: HandedIn) -> Result<Checked, ServiceError> {
    let task: HumanTask = gate.task.clone().unwrap_or_default();
    if task.form_schema.is_empty() {
        return check_answer(&task, &handed_in);
    }
    let checking = tokio::task::spawn_blocking(move || check_answer(&task, &handed_in));
    checking
        .await
        .map_err(|_| ServiceError::new(ErrorCode::Internal, "checking the form failed"))?
}

/// The oldest of several groups' pages. What is younger than the place where some group stopped is left for later.
fn merged(pages: Vec<TaskPage>, limit: usize) -> Tasks {
    let stopped = |page: &TaskPage| IntentId::from_slice(&page.reached_intent_id);
    let reached = pages.iter().filter_map(stopped).min();
    let id = |task: &OpenTask| {
        let intent = task.intent.as_ref();
        intent.and_then(|intent| IntentId::from_slice(&intent.intent_id))
    };
    let mut tasks: Vec<OpenTask> = pages.into_iter().flat_map(|page| page.tasks).collect();
    if reached.is_some() {
        tasks.retain(|task| id(task) <= reached);
    }
    tasks.sort_unstable_by_key(id);
    let next = if tasks.len() > limit {
        tasks.truncate(limit);
        tasks.last().and_then(id)
    } else {
        reached
    };
    Tasks { tasks, next }
}
