//! Keys of the meta group: the cluster, its tenants, their accounts, keys and schemas.

use super::{Range, len, meta};

const CLUSTER: u8 = 0x80;
const NODE: u8 = 0x81;
const ORGANIZATION: u8 = 0x82;
const ORGANIZATION_SLUG: u8 = 0x83;
const WORKSPACE: u8 = 0x84;
const WORKSPACE_SLUG: u8 = 0x85;
const ACCOUNT: u8 = 0x86;
const ACCOUNT_ADDRESS: u8 = 0x87;
const ACCOUNT_NAME: u8 = 0x88;
const WORKSPACE_ACCOUNT: u8 = 0x89;
const KEY: u8 = 0x8a;
const ACCOUNT_KEY: u8 = 0x8b;
const ACCOUNT_COUNT: u8 = 0x8c;
const SCHEMA: u8 = 0x8d;

pub(crate) fn cluster() -> Vec<u8> {
    meta(CLUSTER, &[])
}

pub(crate) fn node(node_id: u64) -> Vec<u8> {
    meta(NODE, &[&node_id.to_be_bytes()])
}

pub(crate) fn nodes() -> Range {
    Range::of(meta(NODE, &[]))
}

pub(crate) fn organization(org_id: &str) -> Vec<u8> {
    meta(ORGANIZATION, &[org_id.as_bytes()])
}

pub(crate) fn organization_slug(slug: &str) -> Vec<u8> {
    meta(ORGANIZATION_SLUG, &[slug.as_bytes()])
}

pub(crate) fn workspace(workspace_id: &str) -> Vec<u8> {
    meta(WORKSPACE, &[workspace_id.as_bytes()])
}

pub(crate) fn workspace_slug(org_id: &str, slug: &str) -> Vec<u8> {
    meta(
        WORKSPACE_SLUG,
        &[&len(org_id), org_id.as_bytes(), slug.as_bytes()],
    )
}

pub(crate) fn account(account_id: &str) -> Vec<u8> {
    meta(ACCOUNT, &[account_id.as_bytes()])
}

pub(crate) fn accounts() -> Range {
    Range::of(meta(ACCOUNT, &[]))
}

pub(crate) fn account_address(address: &str) -> Vec<u8> {
    meta(ACCOUNT_ADDRESS, &[address.as_bytes()])
}

pub(crate) fn account_name(workspace_id: &str, name: &str) -> Vec<u8> {
    meta(
        ACCOUNT_NAME,
        &[&len(workspace_id), workspace_id.as_bytes(), name.as_bytes()],
    )
}

/// The empty workspace id stands for the whole cluster.
pub(crate) fn schema(workspace_id: &str, semantic_type: &str) -> Vec<u8> {
    let workspace = [&len(workspace_id), workspace_id.as_bytes()].concat();
    meta(SCHEMA, &[&workspace, semantic_type.as_bytes()])
}

pub(crate) fn workspace_account(workspace_id: &str, account_id: &str) -> Vec<u8> {
    meta(
        WORKSPACE_ACCOUNT,
        &[&len(workspace_id), workspace_id.as_bytes(), account_id.as_bytes()],
    )
}

pub(crate) fn workspace_accounts(workspace_id: &str) -> Range {
    Range::of(workspace_account(workspace_id, ""))
}

/// Account id of a row of "accounts of a workspace".
pub(crate) fn account_of_workspace<'k>(key: &'k [u8], workspace_id: &str) -> &'k [u8] {
    key.get(3 + workspace_id.len()..).unwrap_or_default()
}

pub(crate) fn api_key(token_sha256: &[u8]) -> Vec<u8> {
    meta(KEY, &[token_sha256])
}

pub(crate) fn account_key(account_id: &str, key_id: &str) -> Vec<u8> {
    meta(
        ACCOUNT_KEY,
        &[&len(account_id), account_id.as_bytes(), key_id.as_bytes()],
    )
}

pub(crate) fn account_keys(account_id: &str) -> Range {
    Range::of(account_key(account_id, ""))
}

pub(crate) fn account_count() -> Vec<u8> {
    meta(ACCOUNT_COUNT, &[])
}
