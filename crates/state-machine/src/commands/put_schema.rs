//! `PutSchema`: the JSON Schema of one intent type's payloads. The gateway reads documents; here they are bytes with a hash.

use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Stop, Transaction, invalid, reject};
use crate::visibility;
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{Actor, PutSchema, Reply, SemanticSchema, reply};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: PutSchema) -> Outcome {
    tx.require_meta()?;
    let mut schema = command.schema.ok_or_else(|| invalid("a schema is missing"))?;
    require_owner(command.actor.as_ref(), &schema)?;
    let key = keys::schema(&schema.workspace_id, &schema.semantic_type);
    let before: Option<SemanticSchema> = rows::read(&*tx.tables, &key)?;
    schema.created_at_ms = tx.now_ms;
    schema.updated_at_ms = tx.now_ms;
    schema.previous_document.clear();
    if let Some(before) = before {
        let same = before.document_sha256 == schema.document_sha256;
        if !same && before.document_sha256 != command.judged_against_sha256 {
            return Err(reject(
                ErrorCode::Conflict,
                "the schema was changed meanwhile; read it again and repeat the call",
            ));
        }
        schema.created_at_ms = before.created_at_ms;
        schema.previous_document = if same {
            before.previous_document
        } else {
            before.document
        };
    }
    rows::write(tx.tables, key, &schema);
    tx.note_meta(None);
    Ok(Reply {
        replayed: false,
        outcome: Some(reply::Outcome::Schema(schema)),
    })
}

/// Schemas of a workspace are set by who manages it, those of the cluster by who runs it.
fn require_owner(actor: Option<&Actor>, schema: &SemanticSchema) -> Result<(), Stop> {
    if !schema.workspace_id.is_empty() {
        return tenants::require_manager(actor, &schema.workspace_id);
    }
    if visibility::operates(actor) {
        return Ok(());
    }
    Err(reject(
        ErrorCode::PolicyDenied,
        "a schema of scope core needs an operator key; use scope tenant for this workspace",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Replica, actor, refusal};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::query::Body as Query;
    use baton_protocol::proto::internal::{FindSchema, KeyKind, query_reply};
    use bytes::Bytes;

    fn put(workspace: &str, document: &str, against: &str) -> PutSchema {
        PutSchema {
            actor: Some(actor(KeyKind::Workspace, "admin")),
            schema: Some(SemanticSchema {
                semantic_type: "a.b.v1".into(),
                workspace_id: workspace.into(),
                document: Bytes::copy_from_slice(document.as_bytes()),
                document_sha256: Bytes::copy_from_slice(document.as_bytes()),
                active: true,
                ..SemanticSchema::default()
            }),
            judged_against_sha256: Bytes::copy_from_slice(against.as_bytes()),
        }
    }

    fn run(replica: &mut Replica, command: PutSchema) -> Result<SemanticSchema, ErrorCode> {
        let reply = replica.run(Body::PutSchema(command));
        match reply.outcome {
            Some(reply::Outcome::Schema(schema)) => Ok(schema),
            _ => Err(refusal(&reply).unwrap()),
        }
    }

    fn find(replica: &Replica, kind: KeyKind, workspace: &str) -> Option<Bytes> {
        let query = FindSchema {
            workspace_id: workspace.into(),
            semantic_type: "a.b.v1".into(),
        };
        let found = replica.ask_as(Some(actor(kind, "somebody")), Query::FindSchema(query));
        if let query_reply::Outcome::Schema(schema) = found {
            return Some(schema.document);
        }
        None
    }

    #[test]
    fn a_version_replaces_the_one_it_was_judged_against_and_no_other() {
        let mut replica = Replica::new(0, 1);
        let first = run(&mut replica, put("w1", "one", "")).unwrap();
        replica.now_ms += 5;
        let second = run(&mut replica, put("w1", "two", "one")).unwrap();
        assert_eq!(&second.previous_document[..], b"one");
        assert_eq!(second.created_at_ms, first.created_at_ms);
        assert_eq!(second.updated_at_ms, first.updated_at_ms + 5);
        assert_eq!(
            run(&mut replica, put("w1", "three", "one")),
            Err(ErrorCode::Conflict)
        );
        let again = run(&mut replica, put("w1", "two", "one")).unwrap();
        assert_eq!(
            &again.previous_document[..],
            b"one",
            "the same document again is no new version"
        );
    }

    #[test]
    fn a_workspace_has_its_own_before_the_clusters() {
        let mut replica = Replica::new(0, 1);
        assert_eq!(
            run(&mut replica, put("", "core", "")),
            Err(ErrorCode::PolicyDenied)
        );
        assert_eq!(
            run(&mut replica, put("other", "x", "")),
            Err(ErrorCode::PolicyDenied)
        );
        let mut core = put("", "core", "");
        core.actor = Some(actor(KeyKind::Operator, "root"));
        run(&mut replica, core).unwrap();
        let mut agents = put("w1", "x", "");
        agents.actor = Some(actor(KeyKind::Agent, "worker"));
        assert_eq!(run(&mut replica, agents), Err(ErrorCode::PolicyDenied));
        assert_eq!(
            find(&replica, KeyKind::Agent, "w1").as_deref(),
            Some(&b"core"[..])
        );
        run(&mut replica, put("w1", "own", "")).unwrap();
        assert_eq!(find(&replica, KeyKind::Agent, "w1").as_deref(), Some(&b"own"[..]));
        assert_eq!(
            find(&replica, KeyKind::Agent, "other").as_deref(),
            Some(&b"core"[..]),
            "another workspace's own is not shown"
        );
    }
}
