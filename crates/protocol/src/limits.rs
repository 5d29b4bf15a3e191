//! Every bound that a client can meet, by name (surface 8.5 unless said otherwise).

/// Body of one request that creates or changes an intent.
pub const BODY_BYTES_MAX: usize = 131_072;
/// An agent address.
pub const ADDRESS_CHARS_MAX: usize = 383;
/// `Idempotency-Key`, in characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// `reason` of resolve and resume.
pub const REASON_CHARS_MAX: usize = 2_000;
/// `actor` of events.
pub const ACTOR_CHARS_MAX: usize = 255;
/// Events in one page of `GET …/events`.
pub const EVENTS_PAGE_MAX: u32 = 1_000;
/// Open deliveries read in one page.
pub const MAILBOX_PAGE_MAX: u32 = 500;
/// Threads, agents, accounts in one list.
pub const LIST_PAGE_MAX: u32 = 1_000;
/// Default page of lists.
pub const LIST_PAGE_DEFAULT: u32 = 100;
/// One `data:` line of an event stream; clients scan with 64 KiB buffers.
pub const SSE_LINE_BYTES_MAX: usize = 60 * 1024;
/// Longest `wait_seconds` of a stream; larger values are clamped.
pub const WAIT_SECONDS_MAX: u64 = 60;
/// `wait_seconds` when the client gives none.
pub const WAIT_SECONDS_DEFAULT: u64 = 15;
/// Requests per minute, key and endpoint.
pub const REQUESTS_PER_MINUTE_DEFAULT: u32 = 120;
/// Nesting of any JSON document that is accepted.
pub const JSON_DEPTH_MAX: usize = 64;
/// Agents, humans and steps of one scenario bundle.
pub const BUNDLE_AGENTS_MAX: usize = 50;
/// See [`BUNDLE_AGENTS_MAX`].
pub const BUNDLE_HUMANS_MAX: usize = 20;
/// See [`BUNDLE_AGENTS_MAX`].
pub const BUNDLE_STEPS_MAX: usize = 100;
/// Steps that one scenario starts, runs of the same step counted each; a workflow that goes around for longer fails.
/// Keeps the whole life of a scenario in one page of events, see [`EVENTS_PAGE_MAX`].
pub const SCENARIO_STARTS_MAX: u32 = 300;
/// `retry.max_retries` of a step.
pub const STEP_RETRIES_MAX: u32 = 100;
/// Longest delay of a step, and longest wait before it runs again: a year.
pub const STEP_SECONDS_MAX: u32 = 366 * 24 * 3_600;
/// Channels of one notification.
pub const NOTIFICATION_CHANNELS_MAX: usize = 20;
/// Body of one notification.
pub const NOTIFICATION_BODY_CHARS_MAX: usize = 5_000;
/// `max_delivery_attempts` when absent (surface 2.6).
pub const DELIVERY_ATTEMPTS_DEFAULT: u32 = 3;
/// Largest accepted `max_delivery_attempts`.
pub const DELIVERY_ATTEMPTS_MAX: u32 = 100;
/// Timers fired by one `Pulse`.
pub const PULSE_ITEMS_MAX: usize = 128;
/// `max_reminders` when reminders are on and no number is given (surface 2.5).
pub const REMINDERS_DEFAULT: u32 = 3;
/// Largest accepted `max_reminders`.
pub const REMINDERS_MAX: u32 = 100;
/// Longest time before a reminder and between two: ten years.
pub const REMIND_SECONDS_MAX: u32 = 10 * 366 * 24 * 3_600;
/// Title of a human task.
pub const TASK_TITLE_CHARS_MAX: usize = 255;
/// Description of a human task.
pub const TASK_DESCRIPTION_CHARS_MAX: usize = 2_000;
/// Outcomes and assignees of a human task.
pub const TASK_LIST_ITEMS_MAX: usize = 20;
/// One outcome of a human task.
pub const TASK_OUTCOME_CHARS_MAX: usize = 64;
/// Comment of an answer to a human task.
pub const TASK_COMMENT_CHARS_MAX: usize = 2_000;
/// JSON Schema of the answer to a human task. Its event must fit in a line of a stream.
pub const FORM_SCHEMA_BYTES_MAX: usize = 32 * 1024;
/// How long a link to the page of a human task may be used (surface 2.7); a deadline ends it sooner.
pub const TASK_LINK_MS: u64 = 7 * 24 * 3600 * 1000;
/// Messages to people about one intent that wait to be sent; further ones are left out.
pub const NOTICES_PER_INTENT_MAX: usize = 64;
/// Attempts to send one message to somebody before it is given up.
pub const NOTICE_ATTEMPTS_MAX: u32 = 24;
/// Messages to people read in one page.
pub const NOTICES_PAGE_MAX: u32 = 64;
/// A mail address.
pub const MAIL_ADDRESS_CHARS_MAX: usize = 320;
/// Requests per minute for the page of one task, and for pages of links that are none from one address.
pub const TASK_LINK_REQUESTS_PER_MINUTE: u32 = 120;
/// Open human tasks in one list.
pub const TASKS_PAGE_MAX: u32 = 500;
/// Commands in one log entry.
pub const BATCH_COMMANDS_MAX: usize = 512;
/// Encoded bytes of one log entry.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Commands waiting in one group's proposer; above it callers get `QueueFull`.
pub const PROPOSER_QUEUE_ITEMS_MAX: usize = 4_096;
/// Time a command may wait before `apply` refuses it.
pub const COMMAND_EXPIRY_MS: u64 = 10_000;
/// How long (log time) `apply` remembers an origin of commands that is silent. Must exceed [`COMMAND_EXPIRY_MS`].
pub const COMMAND_DEDUP_MS: u64 = 15_000;
/// How long (log time) an idempotency record is kept.
pub const IDEMPOTENCY_RETENTION_MS: u64 = 24 * 3600 * 1000;
/// How long (log time) a terminal intent is kept; must be ≥ idempotency retention + 1 h.
pub const TERMINAL_RETENTION_MS: u64 = 72 * 3600 * 1000;
/// Longest time that a workspace may keep terminal intents: ten years.
pub const TERMINAL_RETENTION_MS_MAX: u64 = 10 * 366 * 24 * 3600 * 1000;
/// How much longer than idempotency records terminal intents are kept at least.
pub const TERMINAL_RETENTION_MARGIN_MS: u64 = 3600 * 1000;
/// How long (log time) audit events are kept.
pub const AUDIT_RETENTION_MS: u64 = 400 * 24 * 3600 * 1000;
/// Shortest time that audit events may be kept.
pub const AUDIT_RETENTION_MS_MIN: u64 = 24 * 3600 * 1000;
/// Audit events that one group keeps of one workspace; above it the oldest go, whatever their age.
pub const AUDIT_EVENTS_MAX: u64 = 1_000_000;
/// Audit events in one page. With the longest details they still fit in a gRPC message.
pub const AUDIT_PAGE_MAX: u32 = 250;
/// Audit events in one page when the client says nothing.
pub const AUDIT_PAGE_DEFAULT: u32 = 100;
/// Audit chains that one call names at most, over all groups.
pub const AUDIT_HEADS_MAX: usize = 10_000;
/// Time a written delivery may stay without pick-up before it is sent again.
pub const VISIBILITY_TIMEOUT_MS: u64 = 15_000;
/// Time a picked-up delivery may stay unfinished before it is sent again.
pub const PICKUP_TIMEOUT_MS: u64 = 600_000;
/// Unspent credits of one worker, and items that it may hold at the same time.
pub const WORK_CREDITS_MAX: u32 = 4_096;
/// Time an item may stay with a worker without a report, when the worker asks for none.
pub const WORK_LEASE_DEFAULT_MS: u32 = 30_000;
/// Shortest lease of an item; shorter wishes are raised to it.
pub const WORK_LEASE_MIN_MS: u32 = 1_000;
/// Longest lease of an item; longer wishes are lowered to it.
pub const WORK_LEASE_MAX_MS: u32 = 3_600_000;
/// Longest time an item that was handed back is held before it is offered again.
pub const WORK_DELAY_MAX_MS: u32 = 3_600_000;
/// Reports in one message of a worker.
pub const WORK_MESSAGE_REPORTS_MAX: usize = 4_096;
/// Free text that names a worker.
pub const WORKER_CHARS_MAX: usize = 255;
/// Cross-group messages sent in one go per (source, target).
pub const OUTBOX_SEND_MAX: usize = 64;

/// Encoded bytes of one message of the gRPC API, in either direction.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Intents in one `SubmitBatch` call or `SubmitStream` message.
pub const SUBMIT_ITEMS_MAX: usize = 1_024;
/// Items of one `SubmitStream` that are not answered yet; above it the server stops reading.
pub const SUBMIT_UNANSWERED_MAX: usize = 4_096;
/// Intents of one `SubmitStream` whose end the client still waits for; further ones are refused.
pub const SUBMIT_NOTICES_MAX: usize = 131_072;
/// Intents that one `BulkCancel` looks at.
pub const BULK_CANCEL_MAX: u32 = 500;
/// `limit` of `BulkCancel` when the client gives none.
pub const BULK_CANCEL_DEFAULT: u32 = 100;

const _: () = assert!(COMMAND_DEDUP_MS > COMMAND_EXPIRY_MS);
/// Largest `retry_backoff_seconds` of an envelope, and longest pause that it leads to.
pub const ENVELOPE_RETRY_BACKOFF_SECONDS_MAX: u32 = 24 * 3_600;
/// Largest `execution_timeout_seconds` of an envelope.
pub const ENVELOPE_EXECUTION_SECONDS_MAX: u32 = 7 * 24 * 3_600;
/// Largest `ttl_seconds` of an envelope.
pub const ENVELOPE_TTL_SECONDS_MAX: u32 = 10 * 366 * 24 * 3_600;
/// Characters that name what an intent waits for.
pub const WAITS_FOR_CHARS_MAX: usize = 255;
const _: () = assert!(TERMINAL_RETENTION_MS >= IDEMPOTENCY_RETENTION_MS + TERMINAL_RETENTION_MARGIN_MS);
