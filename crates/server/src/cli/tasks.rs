//! `baton tasks`: what waits for people, and answering it.

use super::connect::ConnectArgs;
use super::intents::printed;
use super::values::{moment, now_ms, parse_json, span};
use crate::exit::Failure;
use crate::output::{Output, list, properties};
use baton_client::{Client, NewAnswer, Payload, Task, TaskFilter};
use clap::{Args, Subcommand};
use comfy_table::{Cell, Table};
use serde_json::{Map, Value};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  baton tasks list\n  baton tasks answer 0193a1c2-… --approve")]
pub(super) struct TasksArgs {
    #[command(subcommand)]
    command: TasksCommand,
}

#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// List open tasks, oldest intent first
    #[command(after_help = "Example: baton tasks list --assignee ops@example.com")]
    List(ListArgs),
    /// Show the latest task of an intent: what is asked, and what was answered
    #[command(after_help = "Example: baton tasks show 0193a1c2-…")]
    Show(ShowArgs),
    /// Answer the open task of an intent
    #[command(
        after_help = "Examples:\n  baton tasks answer 0193a1c2-… --approve --comment 'checked by hand'\n  \
            baton tasks answer 0193a1c2-… --outcome submitted --data grant_duration_days=7"
    )]
    Answer(AnswerArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only tasks that name this assignee
    #[arg(long, value_name = "WHO")]
    assignee: Option<String>,
    /// Only tasks of intents of this type
    #[arg(long = "type", value_name = "TYPE")]
    intent_type: Option<String>,
    /// Most tasks to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Id of the intent
    intent_id: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["outcome", "approve", "reject"]))]
struct AnswerArgs {
    /// Id of the intent
    intent_id: String,
    /// One of the task's outcomes
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// The outcome that says plainly yes
    #[arg(long)]
    approve: bool,
    /// The outcome that says plainly no
    #[arg(long)]
    reject: bool,
    /// Which question of the intent is answered, as `list` and `show` number them; needed from the second one on
    #[arg(long, value_name = "N")]
    generation: Option<u64>,
    /// Comment; some tasks ask for one
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Fields of the form; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_field)]
    data: Vec<(String, Value)>,
    /// Evidence as JSON; some tasks ask for it
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    evidence: Option<Value>,
    /// Who answers [default: the key's address]
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Idempotency key [default: drawn]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A value is a text, and the form says which type it takes; an object, a list or a text in quotes is JSON.
fn parse_field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is no field; write name=value"))?;
    let value = match value.starts_with(['{', '[', '"']) {
        true => serde_json::from_str(value).map_err(|error| format!("{name}: {error}"))?,
        false => Value::from(value),
    };
    Ok((name.to_owned(), value))
}

pub(super) async fn run(args: TasksArgs, out: Output) -> Result<(), Failure> {
    match args.command {
        TasksCommand::List(args) => list_tasks(args, out).await,
        TasksCommand::Show(args) => {
            let task = args.connect.client()?.task(&args.intent_id).await?;
            out.result(&task, &[table(&task)]);
            Ok(())
        }
        TasksCommand::Answer(args) => answer(args, out).await,
    }
}

async fn list_tasks(args: ListArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let filter = TaskFilter {
        assignee: args.assignee,
        intent_type: args.intent_type,
    };
    let tasks = some_tasks(&client, filter, args.limit).await?;
    let now = now_ms();
    let mut table = list(&[
        "intent",
        "question",
        "title",
        "outcomes",
        "assignees",
        "waits",
        "due in",
    ]);
    for task in &tasks {
        let due = task.due_at_ms.map(|due| span(due.saturating_sub(now)));
        table.add_row([
            task.intent_id.clone(),
            task.generation.to_string(),
            task.human_task.title.clone().unwrap_or_default(),
            task.outcomes.join(","),
            task.human_task.assignees.join(","),
            span(now.saturating_sub(task.assigned_at_ms)),
            due.unwrap_or_default(),
        ]);
    }
    out.result(&tasks, &[table]);
    Ok(())
}

/// Up to `limit` tasks, over as many pages as it takes.
async fn some_tasks(client: &Client, filter: TaskFilter, limit: u32) -> Result<Vec<Task>, Failure> {
    let filtered = filter.assignee.is_some() || filter.intent_type.is_some();
    let limit = limit as usize;
    let mut tasks = Vec::new();
    let mut token = None;
    loop {
        // A filter leaves out some of what a page looks at, so then each page looks at as much as it may.
        let size = if filtered { 0 } else { limit - tasks.len() };
        let size = u32::try_from(size).unwrap_or_default();
        let page = client.tasks(filter.clone(), size, token.as_deref()).await?;
        tasks.extend(page.tasks);
        token = page.next;
        if tasks.len() >= limit || token.is_none() {
            tasks.truncate(limit);
            return Ok(tasks);
        }
    }
}

async fn answer(args: AnswerArgs, out: Output) -> Result<(), Failure> {
    let client = args.connect.client()?;
    let id = &args.intent_id;
    let mut answer = NewAnswer {
        comment: args.comment,
        evidence: args.evidence.map(Payload::from),
        actor: args.actor,
        idempotency_key: args.key,
        ..NewAnswer::default()
    };
    if !args.data.is_empty() {
        let fields: Map<String, Value> = args.data.into_iter().collect();
        answer.data = Some(Payload::from(Value::Object(fields)));
    }
    let task = client.task(id).await?;
    answer.generation = Some(the_question_meant(&task, args.generation)?);
    answer.outcome = match args.outcome {
        Some(outcome) => outcome,
        None => {
            let said = task.plain_outcome(args.approve);
            said.map(str::to_owned).ok_or_else(|| unclear(&task))?
        }
    };
    let change = client.answer_task(id, answer).await?;
    let table = properties(vec![
        ("intent", Some(Cell::new(&change.intent.intent_id))),
        ("status", Some(crate::output::status_cell(change.intent.status))),
        (
            "",
            change
                .replayed
                .then(|| Cell::new("an earlier call with the same key answered it")),
        ),
    ]);
    out.result(&change, &[table]);
    Ok(())
}

/// An intent may ask one question after the other, and somebody else may have answered the one that was read. So the
/// second question and those behind it are named, or nothing is answered.
fn the_question_meant(task: &Task, given: Option<u64>) -> Result<u64, Failure> {
    match given {
        Some(generation) => Ok(generation),
        None if task.generation <= 1 => Ok(task.generation),
        None => Err(Failure::usage(format!(
            "this is question {0} of the intent, {1:?}; give --generation {0} if that is what you answer",
            task.generation,
            task.human_task.title.as_deref().unwrap_or_default(),
        ))),
    }
}

fn unclear(task: &Task) -> Failure {
    Failure::usage(format!(
        "this task has no plain yes or no; give --outcome, one of: {}",
        task.outcomes.join(", ")
    ))
}

fn table(task: &Task) -> Table {
    let asked = &task.human_task;
    let text = |text: &Option<String>| text.as_ref().map(Cell::new);
    let flag = |set: bool| set.then(|| Cell::new("required"));
    let answer = task.answer.as_ref();
    let state = match (task.open, answer) {
        (true, _) => "open",
        (false, Some(_)) => "answered",
        (false, None) => "closed without an answer",
    };
    properties(vec![
        ("intent", Some(Cell::new(&task.intent_id))),
        ("question", Some(Cell::new(task.generation))),
        ("title", text(&asked.title)),
        ("description", text(&asked.description)),
        ("state", Some(Cell::new(state))),
        ("type", text(&asked.task_type)),
        ("outcomes", Some(Cell::new(task.outcomes.join(", ")))),
        ("comment", flag(asked.required_comment)),
        ("evidence", flag(asked.evidence_required)),
        (
            "assignees",
            (!asked.assignees.is_empty()).then(|| Cell::new(asked.assignees.join(", "))),
        ),
        (
            "form",
            asked.form_schema.as_ref().map(|form| Cell::new(printed(form))),
        ),
        ("asked", Some(Cell::new(moment(task.assigned_at_ms)))),
        ("due", task.due_at_ms.map(|due| Cell::new(moment(due)))),
        ("outcome", answer.map(|a| Cell::new(&a.outcome))),
        ("said", answer.and_then(|a| text(&a.comment))),
        ("by", answer.map(|a| Cell::new(&a.answered_by))),
        ("at", answer.map(|a| Cell::new(moment(a.at_ms)))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_texts_unless_they_are_written_as_json() {
        assert_eq!(parse_field("zip=01234"), Ok(("zip".into(), "01234".into())));
        assert_eq!(parse_field("ok=true"), Ok(("ok".into(), "true".into())));
        assert_eq!(parse_field("tags=[1]"), Ok(("tags".into(), vec![1].into())));
        assert!(parse_field("tags=[1").is_err());
        assert_eq!(parse_field("note=a=b"), Ok(("note".into(), "a=b".into())));
        assert!(parse_field("=x").is_err() && parse_field("x").is_err());
    }
}
