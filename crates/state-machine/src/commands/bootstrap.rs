//! `BootstrapCluster`: the first command of the meta group.

use crate::keys;
use crate::rows;
use crate::tenants;
use crate::transaction::{Outcome, Transaction, done, invalid, reject};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::{BootstrapCluster, ClusterRecord};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &BootstrapCluster) -> Outcome {
    tx.require_meta()?;
    let existing: Option<ClusterRecord> = rows::read(&*tx.tables, &keys::cluster())?;
    if existing.is_some() {
        return Err(reject(
            ErrorCode::Conflict,
            "the cluster exists already; join it instead",
        ));
    }
    let cluster = command
        .cluster
        .as_ref()
        .ok_or_else(|| invalid("a cluster record is needed"))?;
    rows::write(tx.tables, keys::cluster(), cluster);
    for node in &command.nodes {
        rows::write(tx.tables, keys::node(node.node_id), node);
    }
    if let Some(organization) = &command.organization {
        tenants::put_organization(tx, organization);
    }
    if let Some(workspace) = &command.workspace {
        tenants::put_workspace(tx, workspace);
    }
    if let Some(account) = &command.operator_account {
        tenants::put_new_account(tx, account)?;
    }
    if let Some(key) = &command.operator_key {
        tenants::put_key(tx, key);
    }
    tx.note_meta(None);
    Ok(done())
}
