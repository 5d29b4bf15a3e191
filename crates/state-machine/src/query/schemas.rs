//! Schemas of payloads.

use crate::keys;
use crate::rows;
use crate::tables::Tables;
use crate::transaction::{Stop, not_found};
use crate::visibility;
use baton_protocol::proto::internal::{Actor, FindSchema, SemanticSchema};

/// The workspace's own schema, else the cluster's.
pub(super) fn find(
    tables: &dyn Tables,
    actor: Option<&Actor>,
    q: &FindSchema,
) -> Result<SemanticSchema, Stop> {
    if !q.workspace_id.is_empty() && visibility::belongs_to(actor, &q.workspace_id) {
        let own = rows::read(tables, &keys::schema(&q.workspace_id, &q.semantic_type))?;
        if let Some(own) = own {
            return Ok(own);
        }
    }
    rows::read(tables, &keys::schema("", &q.semantic_type))?.ok_or_else(|| not_found("schema"))
}
