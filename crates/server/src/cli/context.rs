//! `baton context`.

use super::contexts::{Context, Contexts};
use super::values::read_key;
use crate::exit::Failure;
use crate::output::{Output, list};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  baton context add dev --env-file /tmp/baton/client.env\n  \
        baton context add prod --endpoint https://baton-0:8100,https://baton-1:8100 --api-key-file key.txt --ca ca.pem\n  \
        baton context use prod\n\nFlags win over a context named with --context, that over BATON_* and AXME_* variables, \
        those over the current context."
)]
pub(super) struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// Add or replace a context; the first one becomes the current one
    #[command(after_help = "Example: baton context add dev --env-file /tmp/baton/client.env")]
    Add(AddArgs),
    /// Make a context the current one
    #[command(after_help = "Example: baton context use prod")]
    Use(NameArgs),
    /// List contexts; keys are not shown
    #[command(after_help = "Example: baton context list -o json")]
    List,
    /// Forget a context
    #[command(after_help = "Example: baton context remove dev")]
    Remove(NameArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// Name of the context
    name: String,
    /// Endpoints of the nodes, comma separated
    #[arg(
        long = "endpoint",
        value_name = "URL,…",
        value_delimiter = ',',
        required_unless_present = "env_file"
    )]
    endpoints: Vec<String>,
    /// File that holds the API key; - = standard input
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Authority that signed the nodes' certificates (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take endpoints and key from a client.env, as baton dev writes it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoints", "api_key_file"])]
    env_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Name of the context
    name: String,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    current: bool,
    endpoints: Vec<String>,
    has_key: bool,
    ca: Option<PathBuf>,
}

pub(super) fn run(args: ContextArgs, out: Output) -> Result<(), Failure> {
    let path = Contexts::path()?;
    let mut contexts = Contexts::read(&path)?;
    let said = match args.command {
        ContextCommand::List => {
            show(&contexts, out);
            return Ok(());
        }
        ContextCommand::Add(args) => {
            let name = args.name.clone();
            contexts.contexts.insert(name.clone(), context(args)?);
            contexts.current.get_or_insert_with(|| name.clone());
            format!("context {name} is in {}", path.display())
        }
        ContextCommand::Use(NameArgs { name }) => {
            contexts.get(&name)?;
            let said = format!("{name} is the current context");
            contexts.current = Some(name);
            said
        }
        ContextCommand::Remove(NameArgs { name }) => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            format!("context {name} is forgotten")
        }
    };
    contexts.write(&path)?;
    out.line(said);
    Ok(())
}

fn context(args: AddArgs) -> Result<Context, Failure> {
    let mut context = match &args.env_file {
        Some(file) => from_env_file(file)?,
        None => Context {
            endpoints: args.endpoints,
            api_key: args.api_key_file.as_deref().map(read_key).transpose()?,
            ca: None,
        },
    };
    // A relative path would mean another file in another directory.
    context.ca = match args.ca {
        Some(ca) => Some(
            ca.canonicalize()
                .map_err(|error| Failure::config(format!("--ca {}: {error}", ca.display())))?,
        ),
        None => None,
    };
    Ok(context)
}

fn from_env_file(path: &Path) -> Result<Context, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::config(format!("cannot read {}: {error}", path.display())))?;
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let urls = value("AXME_BASE_URLS").or_else(|| value("AXME_BASE_URL"));
    let urls = urls.ok_or_else(|| {
        Failure::config(format!(
            "{} names no AXME_BASE_URL; is it a client.env?",
            path.display()
        ))
    })?;
    Ok(Context {
        endpoints: urls.split(',').map(str::to_owned).collect(),
        api_key: value("AXME_API_KEY"),
        ca: None,
    })
}

fn show(contexts: &Contexts, out: Output) {
    let mut table = list(&["", "name", "endpoints", "key"]);
    let mut rows = Vec::new();
    for (name, context) in &contexts.contexts {
        let current = contexts.current.as_deref() == Some(name);
        let key = context.api_key.as_deref().unwrap_or_default();
        // As much as the server itself shows of a key.
        let hint = key.get(key.len().saturating_sub(4)..).unwrap_or_default();
        table.add_row([
            if current { "*" } else { "" }.to_owned(),
            name.clone(),
            context.endpoints.join(","),
            if key.is_empty() {
                "none".into()
            } else {
                format!("…{hint}")
            },
        ]);
        rows.push(Row {
            name: name.clone(),
            current,
            endpoints: context.endpoints.clone(),
            has_key: !key.is_empty(),
            ca: context.ca.clone(),
        });
    }
    out.result(&rows, &[table]);
}
