//! Forms: the JSON Schema that a human task carries, and the answers that are checked against it.
//!
//! A schema comes from a client and is run on every answer, so what it may cost is bounded when it is accepted: size, nesting,
//! references that stay inside and do not run in circles, patterns without backtracking.

mod answer;
mod coerce;
mod fields;
mod hints;
mod members;
mod narrowing;
mod ordered;
mod posted;
mod problems;
mod schema;
mod task;

pub(crate) use answer::{Checked, HandedIn, check_answer, is_positive_decision};
pub(crate) use fields::{Field, FieldKind, fields, knows_evidence};
pub(crate) use narrowing::narrowing;
pub(crate) use posted::{Posted, document, field_name};
pub(crate) use problems::{Place, Problem, problems};
pub(crate) use schema::{Form, check_schema};
pub(crate) use task::check_task;

use baton_protocol::{ErrorCode, ServiceError};

/// An answer that the task does not accept. The task stays open.
fn wrong(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorCode::TaskResultInvalid, message)
}
