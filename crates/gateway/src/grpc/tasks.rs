//! `TaskService`.

use std::sync::Arc;

use baton_protocol::limits::{
    ACTOR_CHARS_MAX, ADDRESS_CHARS_MAX, BODY_BYTES_MAX, GRPC_MESSAGE_BYTES_MAX, TASKS_PAGE_MAX,
};
use baton_protocol::proto::v1;
use baton_protocol::proto::v1::task_service_server::TaskService;
use baton_protocol::{ErrorCode, IntentId, ServiceError};
use prost::Message as _;
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::auth::Admitted;
use super::decode::{self, Fingerprint};
use super::status::status;
use super::{convert, human_task, leader};
use crate::app::App;
use crate::forms::HandedIn;
use crate::http::{parse_members, parse_value};
use crate::service::{Change, OpenTasks, TaskFilter};

const TYPE_CHARS_MAX: usize = 255;
/// A page ends here, so that it always fits into a message: one task is far smaller.
const PAGE_BYTES_MAX: usize = GRPC_MESSAGE_BYTES_MAX / 2;

pub(super) struct Tasks(pub(super) Arc<App>);

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let filter = decode_filter(request.filter.unwrap_or_default()).map_err(status)?;
        let after = decode::page_token(&request.page_token).map_err(status)?;
        let size = match request.page_size {
            0 => TASKS_PAGE_MAX,
            size => size.min(TASKS_PAGE_MAX),
        };
        let service = &self.0.service;
        let page = service.list_tasks(&call.caller, &filter, after, size).await;
        Ok(Response::new(some_of(page.map_err(status)?)))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let id = decode::intent_id(&request.intent_id).map_err(status)?;
        let view = self.0.service.get_intent(&call.caller, id, false).await;
        let view = view.map_err(status)?;
        let (Some(intent), Some(gate)) = (view.intent, view.gate) else {
            return Err(status(no_task(id)));
        };
        Ok(Response::new(v1::GetTaskResponse {
            task: Some(human_task::task(&intent, gate)),
        }))
    }

    async fn answer_task(
        &self,
        request: Request<v1::AnswerTaskRequest>,
    ) -> Result<Response<v1::AnswerTaskResponse>, Status> {
        let (call, request) = Admitted::split(request)?;
        let generation = Some(request.generation).filter(|g| *g != 0);
        let (id, handed_in, change) = decode_answer(request).map_err(status)?;
        let service = &self.0.service;
        let done = service
            .answer_task(&call.caller, id, generation, handed_in, change)
            .await;
        let answer = done.map_err(status).map(|done| v1::AnswerTaskResponse {
            intent: convert::changed(done.reply.intent, done.reply.event.as_ref()),
            event: done.reply.event.map(convert::event),
            replayed: done.replayed,
        });
        leader::tell(&self.0, leader::group_of(&self.0, id.slot()), answer)
    }
}

/// As many of these tasks as one message takes.
fn some_of(page: OpenTasks) -> v1::ListTasksResponse {
    let tasks = page.tasks.into_iter().filter_map(|open| {
        let (intent, gate) = (open.intent?, open.gate?);
        Some(human_task::task(&intent, gate))
    });
    let mut answer = v1::ListTasksResponse {
        tasks: Vec::new(),
        next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
    };
    let mut bytes = 0;
    for task in tasks {
        bytes += task.encoded_len();
        if bytes > PAGE_BYTES_MAX
            && let Some(last) = answer.tasks.last()
        {
            answer.next_page_token.clone_from(&last.intent_id);
            break;
        }
        answer.tasks.push(task);
    }
    answer
}

fn no_task(id: IntentId) -> ServiceError {
    ServiceError::new(ErrorCode::NotFound, format!("intent {id} has no human task"))
}

fn decode_filter(filter: v1::TaskFilter) -> Result<TaskFilter, ServiceError> {
    let text =
        |value, field, max| Ok::<_, ServiceError>(decode::text(value, field, max)?.unwrap_or_default());
    Ok(TaskFilter {
        assignee: text(filter.assignee, "filter.assignee", ADDRESS_CHARS_MAX)?,
        intent_type: text(filter.intent_type, "filter.intent_type", TYPE_CHARS_MAX)?,
    })
}

fn decode_answer(request: v1::AnswerTaskRequest) -> Result<(IntentId, HandedIn, Change), ServiceError> {
    let given = request.data_json.len() + request.evidence_json.len();
    if given > BODY_BYTES_MAX {
        let message = format!("data_json and evidence_json together are larger than {BODY_BYTES_MAX} bytes");
        return Err(ServiceError::new(ErrorCode::PayloadTooLarge, message).in_field("data_json"));
    }
    let id = decode::intent_id(&request.intent_id)?;
    let hash = Fingerprint::default()
        .number(request.generation)
        .text(&request.outcome)
        .text(&request.comment)
        .bytes(&request.data_json)
        .bytes(&request.evidence_json)
        .text(&request.actor)
        .number(
            request
                .expected_policy_generation
                .map_or(0, |g| g.saturating_add(1)),
        );
    let endpoint = format!("baton.v1.TaskService/AnswerTask {id}");
    let idempotency = decode::optional_key(request.idempotency_key, endpoint, hash)?;
    let mut handed_in = HandedIn::default();
    if request.outcome.is_empty() {
        return Err(decode::missing("outcome"));
    }
    handed_in.set("outcome", &Value::from(request.outcome));
    if !request.comment.is_empty() {
        handed_in.set("comment", &Value::from(request.comment));
    }
    if !request.data_json.is_empty() {
        parse_members(&request.data_json).map_err(|error| error.in_field("data_json"))?;
        let data = parse_value(&request.data_json).map_err(|error| error.in_field("data_json"))?;
        handed_in.members.push(("data".to_owned(), data));
    }
    if !request.evidence_json.is_empty() {
        let evidence =
            parse_value(&request.evidence_json).map_err(|error| error.in_field("evidence_json"))?;
        handed_in.members.push(("evidence".to_owned(), evidence));
    }
    let change = Change {
        label: decode::text(request.actor, "actor", ACTOR_CHARS_MAX)?,
        expected_policy_generation: request.expected_policy_generation,
        idempotency,
        ..Change::default()
    };
    Ok((id, handed_in, change))
}
