//! Human tasks: finding and answering them.

use crate::client::{Safety, unary};
use crate::submit::draw_key;
use crate::types::{Change, Payload, Task, TaskFilter, TaskPage};
use crate::{Client, Error};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::task_service_client::TaskServiceClient;

/// The answer to a human task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewAnswer {
    /// Only this task of the intent; absent = whichever is open.
    pub generation: Option<u64>,
    /// One of the task's outcomes.
    pub outcome: String,
    pub comment: Option<String>,
    /// The fields of the task's form: a JSON object.
    pub data: Option<Payload>,
    /// JSON.
    pub evidence: Option<Payload>,
    /// Who answers, as the event shows it; the key's address when absent.
    pub actor: Option<String>,
    /// Drawn when absent, so that repetitions of the call count once.
    pub idempotency_key: Option<String>,
}

impl Client {
    /// One page of the open tasks that this key may answer, oldest intent first; `token` is the `next` of the page
    /// before, `page_size` 0 = the server's default. With a filter a page may be empty and still have a next one.
    ///
    /// # Errors
    /// What any call gives.
    pub async fn tasks(
        &self,
        filter: TaskFilter,
        page_size: u32,
        token: Option<&str>,
    ) -> Result<TaskPage, Error> {
        let request = v1::ListTasksRequest {
            filter: Some(v1::TaskFilter {
                assignee: filter.assignee.unwrap_or_default(),
                intent_type: filter.intent_type.unwrap_or_default(),
            }),
            page_size,
            page_token: token.unwrap_or_default().to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, TaskServiceClient.list_tasks(request))?;
        Ok(TaskPage {
            tasks: answer.tasks.into_iter().map(Task::from_wire).collect(),
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// The latest task of an intent, open or not.
    ///
    /// # Errors
    /// `not_found` when there is none, and what any call gives.
    pub async fn task(&self, intent_id: &str) -> Result<Task, Error> {
        let request = v1::GetTaskRequest {
            intent_id: intent_id.to_owned(),
        };
        let answer = unary!(self, Safety::Repeatable, TaskServiceClient.get_task(request))?;
        answer
            .task
            .map(Task::from_wire)
            .ok_or_else(|| Error::Unexpected("the task is missing".into()))
    }

    /// Answers the open task of an intent.
    ///
    /// # Errors
    /// `task_result_invalid` when the answer does not fit, `conflict` when another task is open by now, and what any
    /// call gives.
    pub async fn answer_task(&self, intent_id: &str, answer: NewAnswer) -> Result<Change, Error> {
        let json = |payload: Option<Payload>| payload.map(|p| p.into_wire().data).unwrap_or_default();
        let request = v1::AnswerTaskRequest {
            intent_id: intent_id.to_owned(),
            generation: answer.generation.unwrap_or_default(),
            outcome: answer.outcome,
            comment: answer.comment.unwrap_or_default(),
            data_json: json(answer.data),
            evidence_json: json(answer.evidence),
            actor: answer.actor.unwrap_or_default(),
            idempotency_key: answer.idempotency_key.unwrap_or_else(draw_key),
            expected_policy_generation: None,
        };
        let done = unary!(self, Safety::Repeatable, TaskServiceClient.answer_task(request))?;
        Change::new(done.intent, done.event, done.replayed)
    }
}
