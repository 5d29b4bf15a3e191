//! Human tasks: asking, listing, answering.

use baton_protocol::limits::{BODY_BYTES_MAX, FORM_SCHEMA_BYTES_MAX};
use baton_protocol::proto::v1;
use tonic::Code;

use super::{Client, refused, spec};
use crate::support::{OTHER_TOKEN, Server};

fn asking(task: v1::HumanTask) -> v1::SubmitRequest {
    v1::SubmitRequest {
        intent: Some(v1::IntentSpec {
            intent_type: "deploy.approval.v1".into(),
            human_task: Some(task),
            ..spec("")
        }),
    }
}

fn titled(title: &str, assignee: &str) -> v1::HumanTask {
    v1::HumanTask {
        title: title.into(),
        assignees: vec![assignee.into()],
        ..v1::HumanTask::default()
    }
}

async fn ask(client: &Client, task: v1::HumanTask) -> String {
    let answer = client.intents().submit(asking(task)).await.unwrap().into_inner();
    let receipt = answer.receipt.unwrap();
    assert_eq!(receipt.status(), v1::Status::Waiting);
    receipt.intent_id
}

fn answer(intent_id: &str, outcome: &str) -> v1::AnswerTaskRequest {
    v1::AnswerTaskRequest {
        intent_id: intent_id.into(),
        outcome: outcome.into(),
        ..v1::AnswerTaskRequest::default()
    }
}

async fn listed(client: &Client, filter: v1::TaskFilter) -> Vec<String> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListTasksRequest {
            filter: Some(filter.clone()),
            page_size: 2,
            page_token,
        };
        let page = client.tasks().list_tasks(request).await.unwrap().into_inner();
        assert!(page.tasks.iter().all(|task| task.open && task.answer.is_none()));
        found.extend(page.tasks.into_iter().map(|task| task.intent_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn a_person_is_asked_found_and_answers_once() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(ask(&client, titled("Ship?", &format!("team-{}", n % 2))).await);
    }
    ids.sort();
    assert_eq!(listed(&client, v1::TaskFilter::default()).await, ids);
    let theirs = v1::TaskFilter {
        assignee: "team-1".into(),
        ..v1::TaskFilter::default()
    };
    assert_eq!(listed(&client, theirs).await.len(), 2);
    let stranger = Client::new(&server, OTHER_TOKEN).await;
    assert!(listed(&stranger, v1::TaskFilter::default()).await.is_empty());

    let get = |intent_id: &str| v1::GetTaskRequest {
        intent_id: intent_id.into(),
    };
    let task = client
        .tasks()
        .get_task(get(&ids[0]))
        .await
        .unwrap()
        .into_inner()
        .task
        .unwrap();
    assert_eq!((task.generation, task.open), (1, true));
    assert_eq!(task.outcomes, ["approved", "rejected"]);
    assert_eq!(task.human_task.unwrap().title, "Ship?");
    refused(
        client.tasks().answer_task(answer(&ids[0], "perhaps")).await,
        Code::InvalidArgument,
        "task_result_invalid",
    );
    let other = v1::AnswerTaskRequest {
        generation: 2,
        ..answer(&ids[0], "approved")
    };
    refused(
        client.tasks().answer_task(other).await,
        Code::AlreadyExists,
        "conflict",
    );
    let approval = || v1::AnswerTaskRequest {
        generation: 1,
        comment: "go".into(),
        actor: "ops@example.com".into(),
        idempotency_key: "a1".into(),
        ..answer(&ids[0], "approved")
    };
    let done = client.tasks().answer_task(approval()).await.unwrap().into_inner();
    assert_eq!(done.intent.unwrap().status(), v1::Status::Completed);
    assert_eq!(done.event.unwrap().actor, "ops@example.com");
    let again = client.tasks().answer_task(approval()).await.unwrap().into_inner();
    assert!(again.replayed && !done.replayed);
    refused(
        client.tasks().answer_task(answer(&ids[0], "rejected")).await,
        Code::FailedPrecondition,
        "intent_terminal",
    );
    let task = client
        .tasks()
        .get_task(get(&ids[0]))
        .await
        .unwrap()
        .into_inner()
        .task
        .unwrap();
    let said = task.answer.unwrap();
    assert!(!task.open);
    assert_eq!((said.outcome.as_str(), said.comment.as_str()), ("approved", "go"));
    assert_eq!(listed(&client, v1::TaskFilter::default()).await, ids[1..]);
    let plain = client.create("agent://w").await;
    refused(
        client.tasks().get_task(get(&plain)).await,
        Code::NotFound,
        "not_found",
    );
}

#[tokio::test]
async fn a_form_and_evidence_are_asked_for() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let form =
        br#"{"type":"object","required":["days"],"properties":{"days":{"type":"integer","maximum":90}}}"#;
    let task = v1::HumanTask {
        task_type: v1::TaskType::Form.into(),
        form_schema_json: form.to_vec().into(),
        evidence_required: true,
        ..v1::HumanTask::default()
    };
    let id = ask(&client, task).await;
    let with = |data: &str, evidence: &str| v1::AnswerTaskRequest {
        data_json: data.to_owned().into(),
        evidence_json: evidence.to_owned().into(),
        ..answer(&id, "submitted")
    };
    for (data, evidence, reason) in [
        ("", r#"["x"]"#, "task_result_invalid"),
        (r#"{"days":91}"#, r#"["x"]"#, "task_result_invalid"),
        (r#"{"days":7}"#, "", "task_result_invalid"),
        ("[7]", r#"["x"]"#, "invalid_argument"),
        ("{", r#"["x"]"#, "bad_request"),
    ] {
        let refusal = client.tasks().answer_task(with(data, evidence)).await;
        refused(refusal, Code::InvalidArgument, reason);
    }
    let large = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX));
    refused(
        client.tasks().answer_task(with(r#"{"days":7}"#, &large)).await,
        Code::ResourceExhausted,
        "payload_too_large",
    );
    let done = client
        .tasks()
        .answer_task(with(r#"{"days":7}"#, r#"["x"]"#))
        .await;
    let intent = done.unwrap().into_inner().intent.unwrap();
    let result = intent.outcome.unwrap().result.unwrap().data;
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["task_result"]["data"]["days"], 7);
}

/// A task of the largest size, and a schema that is larger still.
#[tokio::test]
async fn pages_and_schemas_are_bounded_by_size() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let form = format!("{{\"title\":\"{}\"}}", "x".repeat(FORM_SCHEMA_BYTES_MAX - 12));
    let task = v1::HumanTask {
        task_type: v1::TaskType::Form.into(),
        form_schema_json: form.clone().into(),
        ..v1::HumanTask::default()
    };
    let mut ids = Vec::new();
    for _ in 0..140 {
        ids.push(ask(&client, task.clone()).await);
    }
    ids.sort();
    let mut found = Vec::new();
    let mut pages = 0;
    let mut request = v1::ListTasksRequest::default();
    loop {
        let page = client
            .tasks()
            .list_tasks(request.clone())
            .await
            .unwrap()
            .into_inner();
        pages += 1;
        found.extend(page.tasks.into_iter().map(|task| task.intent_id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found, pages), (ids, 3));
    let schema = v1::PutSchemaRequest {
        semantic_type: "acme.payment.capture.v1".into(),
        mode: v1::SchemaMode::Strict.into(),
        document_json: format!(" {form}").into(),
        ..v1::PutSchemaRequest::default()
    };
    refused(
        client.schemas().put_schema(schema).await,
        Code::InvalidArgument,
        "schema_invalid",
    );
}

/// Two people are asked one after the other; the answer of the first call is lost.
#[tokio::test]
async fn a_repeated_answer_gets_what_the_first_one_got() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let bundle = r#"{"scenario_id": "two.people.v1",
        "workflow": {"steps": [
            {"step_id": "one", "human_task": {"title": "First?"}},
            {"step_id": "two", "human_task": {"title": "Second?", "task_type": "form",
                "form_schema": {"type": "object", "required": ["days"]}}}]},
        "intent": {"type": "pay.order.v1", "payload": {}}}"#;
    let apply = v1::ApplyScenarioRequest {
        bundle_json: bundle.into(),
        ..v1::ApplyScenarioRequest::default()
    };
    let applied = client
        .scenarios()
        .apply_scenario(apply)
        .await
        .unwrap()
        .into_inner();
    let id = applied.intent.unwrap().intent_id;
    let numbered = |generation, key: &str| v1::AnswerTaskRequest {
        generation,
        idempotency_key: key.into(),
        ..answer(&id, "approved")
    };
    let first = client
        .tasks()
        .answer_task(numbered(1, "a"))
        .await
        .unwrap()
        .into_inner();
    let again = client
        .tasks()
        .answer_task(numbered(1, "a"))
        .await
        .unwrap()
        .into_inner();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.event, first.event);
    refused(
        client.tasks().answer_task(numbered(1, "b")).await,
        Code::AlreadyExists,
        "conflict",
    );
    refused(
        client.tasks().answer_task(numbered(2, "c")).await,
        Code::InvalidArgument,
        "task_result_invalid",
    );

    // The same without saying which task.
    let applied = client
        .scenarios()
        .apply_scenario(v1::ApplyScenarioRequest {
            bundle_json: bundle.into(),
            ..v1::ApplyScenarioRequest::default()
        })
        .await;
    let id = applied.unwrap().into_inner().intent.unwrap().intent_id;
    let resume = |key: &str| v1::ResumeRequest {
        intent_id: id.clone(),
        idempotency_key: key.into(),
        action: Some(v1::resume_request::Action::TaskResult(v1::Payload {
            data: r#"{"outcome":"approved"}"#.into(),
            ..v1::Payload::default()
        })),
        ..v1::ResumeRequest::default()
    };
    let first = client.intents().resume(resume("a")).await.unwrap().into_inner();
    let again = client.intents().resume(resume("a")).await.unwrap().into_inner();
    assert_eq!((again.event, again.replayed), (first.event, true));
    refused(
        client.intents().resume(resume("b")).await,
        Code::InvalidArgument,
        "task_result_invalid",
    );
}

/// What is empty has the same bytes wherever it stands.
#[tokio::test]
async fn a_task_and_reminders_count_apart_in_a_key() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let submit = |human_task, reminders| {
        let mut request = asking(v1::HumanTask::default());
        let intent = request.intent.as_mut().unwrap();
        intent.to_agent = "agent://w".into();
        intent.idempotency_key = "k".into();
        (intent.human_task, intent.reminders) = (human_task, reminders);
        let mut intents = client.intents();
        async move { intents.submit(request).await }
    };
    submit(None, Some(v1::Reminders::default())).await.unwrap();
    refused(
        submit(Some(v1::HumanTask::default()), None).await,
        Code::AlreadyExists,
        "idempotency_conflict",
    );
}

#[tokio::test]
async fn a_task_and_reminders_are_checked_and_part_of_the_key() {
    let server = Server::start().await;
    let client = Client::operator(&server).await;
    let submit = |task: v1::HumanTask, reminders: v1::Reminders| {
        let mut request = asking(task);
        let intent = request.intent.as_mut().unwrap();
        intent.reminders = Some(reminders);
        intent.idempotency_key = "k".into();
        let mut intents = client.intents();
        async move { intents.submit(request).await }
    };
    let mail = v1::HumanTask {
        notify_email: "nobody".into(),
        ..v1::HumanTask::default()
    };
    let none = v1::Reminders::default();
    refused(
        submit(mail, none.clone()).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let unknown = v1::HumanTask {
        task_type: 99,
        ..v1::HumanTask::default()
    };
    refused(
        submit(unknown, none.clone()).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let often = v1::Reminders {
        max_reminders: 101,
        ..v1::Reminders::default()
    };
    refused(
        submit(titled("t", "a"), often).await,
        Code::InvalidArgument,
        "invalid_argument",
    );
    let twice = v1::Reminders {
        remind_after_seconds: 30,
        max_reminders: 2,
        escalate_to: "boss".into(),
        ..v1::Reminders::default()
    };
    let receipt = submit(titled("t", "a"), twice.clone())
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    let shown = server
        .get(&format!("/v1/intents/{}", receipt.intent_id))
        .await
        .ok();
    assert_eq!(shown["intent"]["remind_after_seconds"], 30);
    assert_eq!(shown["intent"]["max_reminders"], 2);
    let again = submit(titled("t", "a"), twice.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(again.receipt.unwrap().replayed);
    refused(
        submit(titled("another", "a"), twice).await,
        Code::AlreadyExists,
        "idempotency_conflict",
    );
}
