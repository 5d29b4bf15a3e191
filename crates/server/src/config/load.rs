//! Layers: built-in defaults < file < environment < flags. The two upper layers arrive together as
//! [`Overrides`].

use super::{Config, Overrides};
use crate::exit::Failure;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use std::path::Path;

/// Reads the layers and checks the result.
///
/// # Errors
/// One line naming file, key and fix (exit 78).
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, Failure> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::config(format!(
                "cannot read configuration {} ({error}); correct --config or BATON_CONFIG",
                path.display()
            ))
        })?;
        // Checked by itself first, so that an error can name the file and not a merged layer.
        Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::string(&text))
            .extract::<Config>()
            .map_err(|error| Failure::config(describe(path, &error)))?;
        figment = figment.merge(Toml::string(&text));
    }
    let mut config: Config = figment
        .merge(Serialized::defaults(overrides.to_dict()))
        .extract()
        .map_err(|error| Failure::config(format!("configuration: {error}")))?;
    if config.name.is_empty() {
        config.name = format!("node-{}", config.cluster.ordinal + 1);
    }
    super::check(&config)?;
    Ok(config)
}

/// One line for one mistake in a file.
fn describe(file: &Path, error: &figment::Error) -> String {
    let file = file.display();
    let mut key = error.path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(name, known) => {
            if !key.ends_with(name.as_str()) {
                key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
            }
            return format!("{file}: unknown key `{key}`; known here: {}", known.join(", "));
        }
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("is {found}, expected {wanted}")
        }
        Kind::UnknownVariant(found, known) => {
            format!("is `{found}`, expected one of {}", known.join(", "))
        }
        Kind::Message(_)
        | Kind::InvalidLength(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => error.kind.to_string(),
    };
    if key.is_empty() {
        format!("{file}: {what}; correct the file")
    } else {
        format!("{file}: key `{key}` {what}; correct or remove it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use clap::Parser;
    use std::path::PathBuf;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        overrides: Overrides,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn flags(args: &[&str]) -> Overrides {
        Line::parse_from(std::iter::once(&"x").chain(args)).overrides
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("data_dir = 'a'\n[client]\nlisten = '127.0.0.1:1'\n[cluster]\nshard_groups = 4\n");
        let args = flags(&["--client-listen", "127.0.0.1:2"]);
        let config = load(Some(file.path()), &args).unwrap();
        assert_eq!(config.client.listen.port(), 2);
        assert_eq!(config.data_dir, PathBuf::from("a"));
        assert_eq!(config.cluster.shard_groups, 4);
        assert_eq!(config.peer.listen.port(), 8101);
        assert_eq!(config.name, "node-1");
    }

    #[test]
    fn every_flag_has_its_variable_and_reaches_its_key() {
        let command = <Line as clap::CommandFactory>::command();
        for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
            let env = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
            let help = arg.get_help().unwrap().to_string();
            let key = help
                .split("[key: ")
                .nth(1)
                .unwrap()
                .split([';', ']'])
                .next()
                .unwrap();
            assert_eq!(env, format!("BATON_{}", key.to_uppercase().replace('.', "_")));
        }
        let args = flags(&[
            "--cluster-peers",
            "127.0.0.1:8101,127.0.0.1:9101",
            "--log-format",
            "json",
            "--otlp-endpoint",
            "http://127.0.0.1:4317",
            "--requests-per-minute",
            "0",
            "--client-cors-origins",
            "https://a.example,https://b.example",
        ]);
        let config = load(None, &args).unwrap();
        assert_eq!(config.cluster.peers.len(), 2);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.otlp.endpoint.as_deref(), Some("http://127.0.0.1:4317"));
        assert_eq!(config.limits.requests_per_minute, 0);
        assert_eq!(
            config.client.cors_origins,
            ["https://a.example", "https://b.example"]
        );
    }

    #[test]
    fn mistakes_in_the_file_are_one_line_with_file_key_and_fix() {
        for (text, needles) in [
            (
                "[client]\nlisen = 'x'\n",
                vec!["unknown key `client.lisen`", "listen"],
            ),
            ("colour = 1\n", vec!["unknown key `colour`", "data_dir"]),
            (
                "[cluster]\nordinal = 'one'\n",
                vec!["key `cluster.ordinal`", "expected"],
            ),
            ("[client]\nlisten = 'localhost'\n", vec!["client.listen"]),
            ("[log]\nformat = 'xml'\n", vec!["log.format", "text, json"]),
            ("= 3", vec!["correct the file"]),
        ] {
            let file = file(text);
            let failure = load(Some(file.path()), &Overrides::default()).unwrap_err();
            assert_eq!(failure.code, crate::exit::ExitCode::Config);
            assert!(
                failure.line.contains(&file.path().display().to_string()),
                "{}",
                failure.line
            );
            for needle in needles {
                assert!(
                    failure.line.contains(needle),
                    "{needle:?} not in {}",
                    failure.line
                );
            }
        }
        let failure = load(Some(Path::new("/no/such.toml")), &Overrides::default()).unwrap_err();
        assert!(failure.line.contains("/no/such.toml") && failure.line.contains("BATON_CONFIG"));
    }

    #[test]
    fn a_written_configuration_reads_back() {
        let config = load(None, &flags(&["--data-dir", "/d", "--name", "n"])).unwrap();
        let file = file(&config.to_toml());
        assert_eq!(load(Some(file.path()), &Overrides::default()).unwrap(), config);
    }
}
