//! `baton audit list` and `baton audit heads`.

use super::source::{Source, heads_of, rows};
use super::{HeadsArgs, ListArgs};
use crate::cli::http::{Http, path, text};
use crate::exit::Failure;
use crate::output::{Output, list as table};

/// Of a hash, this many characters are shown to people.
const SHOWN_CHARS: usize = 16;

pub(super) async fn list(args: ListArgs, out: Output) -> Result<(), Failure> {
    let query = [
        ("action_prefix", args.action.unwrap_or_default()),
        ("owner_agent", args.owner.unwrap_or_default()),
        ("since", args.since.unwrap_or_default()),
        ("until", args.until.unwrap_or_default()),
        ("limit", args.limit.to_string()),
        ("cursor", args.cursor.unwrap_or_default()),
        ("workspace_id", args.workspace.unwrap_or_default()),
    ];
    let path = path(&["v1", "audit", "events"], &query)?;
    let answer = Http::new(&args.connect)?.call("GET", &path, None).await?;
    let mut shown = table(&["at", "action", "status", "actor", "target"]);
    for event in rows(&answer, "events") {
        let names = ["at", "action", "status_code", "actor", "target_id"];
        shown.add_row(names.map(|name| text(&event[name])));
    }
    out.result(&answer, &[shown]);
    Ok(())
}

pub(super) async fn heads(args: &HeadsArgs, out: Output) -> Result<(), Failure> {
    let answer = Source::new(&args.connect, &args.scope)?.heads().await?;
    let mut shown = table(&["workspace", "group", "events", "kept from", "hash"]);
    for head in heads_of(&answer)? {
        let hash: String = head.hash_text().chars().take(SHOWN_CHARS).collect();
        shown.add_row([
            head.workspace_id.clone(),
            head.group_id.to_string(),
            head.sequence.to_string(),
            (head.anchor_sequence + 1).to_string(),
            hash,
        ]);
    }
    out.result(&answer, &[shown]);
    Ok(())
}
