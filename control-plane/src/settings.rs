//! Settings from a file and from secret files, given to the command line as its defaults: a flag
//! counts more than the environment, and that more than the file. What nobody knows is refused.
//!
//! The file is TOML, named by `BULKHEAD_CONFIG`; its keys are those of the flags. A secret may stand
//! in a file of its own, named by its variable with `_FILE` behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

/// Names the file.
const CONFIG: &str = "BULKHEAD_CONFIG";
/// What our variables start with.
const PREFIX: &str = "BULKHEAD_";
/// Variables of Bulkhead's other programs, which may stand in the same environment.
const OTHERS: [&str; 21] = [
    "BULKHEAD_URL",
    "BULKHEAD_TOKEN",
    "BULKHEAD_DATA_DIR",
    "BULKHEAD_RUN_DIR",
    "BULKHEAD_BIN_DIR",
    "BULKHEAD_TEMPORAL",
    "BULKHEAD_SANDBOX_IMAGE",
    "BULKHEAD_SANDBOX_INIT",
    "BULKHEAD_EXECUTOR_TOKEN",
    "BULKHEAD_EXECUTOR_TOKEN_FILE",
    "BULKHEAD_IDLE_TIMEOUT_S",
    "BULKHEAD_MAX_LIFETIME_S",
    "BULKHEAD_MIN_TIER",
    "BULKHEAD_POOL_SIZE",
    "BULKHEAD_RUNTIME",
    "BULKHEAD_SPOOL_LIMIT_MIB",
    "BULKHEAD_WORKSPACE",
    "BULKHEAD_TEST_ALL",
    "BULKHEAD_UPDATE",
    "BULKHEAD_SCHEMATHESIS",
    CONFIG,
];

/// A setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that was named cannot be read.
    #[error("{variable} names {path}, which cannot be read")]
    Read {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or has more than plain values.
    #[error("{path} is no list of settings such as `listen = \"127.0.0.1:8080\"`: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why; never a value.
        reason: String,
    },
    /// A key that no command has.
    #[error("{path} sets `{key}`, which is no setting; known are {known}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// All that there are.
        known: String,
    },
    /// A variable that no program of ours has.
    #[error("the environment sets {0}, which is no setting; `--help` lists them")]
    UnknownVariable(String),
    /// Both a secret and the file with it.
    #[error("both {0} and {0}_FILE are set; keep one")]
    Twice(String),
}

/// A command line that also takes its settings from the file and from secret files.
///
/// # Errors
/// See [`SettingsError`].
pub fn apply(
    command: Command,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Command, SettingsError> {
    let environment: BTreeMap<String, String> = environment.collect();
    let known = known(&command);
    let mut defaults = match environment.get(CONFIG) {
        Some(path) => read_file(Path::new(path), &known)?,
        None => BTreeMap::new(),
    };
    for (key, variable) in &known {
        let named = format!("{variable}_FILE");
        if let Some(path) = environment.get(&named) {
            if environment.contains_key(variable) {
                return Err(SettingsError::Twice(variable.clone()));
            }
            defaults.insert(key.clone(), read_secret(named, Path::new(path))?);
        }
    }
    refuse_unknown(&environment, &known)?;
    Ok(with_defaults(command, &defaults))
}

/// Keys of the file with their variables.
fn known(command: &Command) -> BTreeMap<String, String> {
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    arguments
        .filter_map(|argument| {
            let variable = argument.get_env()?.to_str()?.to_owned();
            Some((argument.get_id().to_string(), variable))
        })
        .collect()
}

fn read_file(
    path: &Path,
    known: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SettingsError> {
    let malformed = |reason: String| SettingsError::Malformed { path: path.to_owned(), reason };
    let text = read(CONFIG.into(), path)?;
    // The parser's message quotes the line, and with it a secret.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count());
        malformed(format!("line {line}: {}", error.message()))
    })?;
    let mut settings = BTreeMap::new();
    for (key, value) in table {
        if !known.contains_key(&key) {
            let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(SettingsError::UnknownKey { path: path.to_owned(), key, known });
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            _ => return Err(malformed(format!("`{key}` must be a text, a number or true/false"))),
        };
        settings.insert(key, value);
    }
    Ok(settings)
}

fn read(variable: String, path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| {
        let path = path.to_owned();
        SettingsError::Read { variable, path, source }
    })
}

fn read_secret(variable: String, path: &Path) -> Result<String, SettingsError> {
    Ok(read(variable, path)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn refuse_unknown(
    environment: &BTreeMap<String, String>,
    known: &BTreeMap<String, String>,
) -> Result<(), SettingsError> {
    let is_known = |name: &str| {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        OTHERS.contains(&name) || known.values().any(|known| known == name || known == plain)
    };
    let ours = environment.keys().filter(|name| name.starts_with(PREFIX));
    match ours.into_iter().find(|name| !is_known(name)) {
        Some(name) => Err(SettingsError::UnknownVariable(name.clone())),
        None => Ok(()),
    }
}

fn with_defaults(command: Command, defaults: &BTreeMap<String, String>) -> Command {
    let set = |argument: Arg| match defaults.get(argument.get_id().as_str()) {
        Some(value) => {
            argument.default_value(value.clone()).hide_default_value(true).required(false)
        }
        None => argument,
    };
    command.mut_subcommands(|subcommand| subcommand.mut_args(set))
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn command() -> Command {
        let url = Arg::new("database_url").long("database-url").env("DATABASE_URL").required(true);
        let limit = Arg::new("limit").long("limit").env("BULKHEAD_LIMIT").default_value("5");
        let sub = Command::new("serve").args([url, limit.action(ArgAction::Set)]);
        Command::new("test").subcommand(sub).subcommand_required(true)
    }

    fn file(name: &str, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("bulkhead-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    }

    fn environment(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<Vec<_>>().into_iter()
    }

    fn value(command: Command, arguments: &[&str], key: &str) -> Option<String> {
        let all = [&["test", "serve"], arguments].concat();
        let matches = command.try_get_matches_from(all).expect("parses");
        matches.subcommand()?.1.get_one::<String>(key).cloned()
    }

    #[test]
    fn a_file_gives_what_flags_leave_out() {
        let path = file("plain.toml", "database_url = \"postgres://x\"\nlimit = 7\n");
        let command = apply(command(), environment(&[(CONFIG, &path)])).expect("applies");
        assert_eq!(value(command.clone(), &[], "limit").as_deref(), Some("7"));
        assert_eq!(value(command.clone(), &["--limit", "9"], "limit").as_deref(), Some("9"));
        assert_eq!(value(command, &[], "database_url").as_deref(), Some("postgres://x"));
    }

    #[test]
    fn a_secret_comes_from_a_file_of_its_own() {
        let path = file("secret", "postgres://secret\n");
        let command =
            apply(command(), environment(&[("DATABASE_URL_FILE", &path)])).expect("applies");
        assert_eq!(value(command, &[], "database_url").as_deref(), Some("postgres://secret"));
        let both = [("DATABASE_URL_FILE", path.as_str()), ("DATABASE_URL", "x")];
        let error = apply(self::command(), environment(&both)).expect_err("two");
        assert_eq!(error.to_string(), "both DATABASE_URL and DATABASE_URL_FILE are set; keep one");
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        let path = file("unknown.toml", "limits = 7\n");
        let error = apply(command(), environment(&[(CONFIG, &path)])).expect_err("unknown");
        assert!(error.to_string().contains("sets `limits`"), "{error}");
        let error = apply(command(), environment(&[("BULKHEAD_LIMITS", "1")])).expect_err("too");
        assert!(error.to_string().contains("BULKHEAD_LIMITS"), "{error}");
        apply(command(), environment(&[("BULKHEAD_URL", "x"), ("PATH", "y")])).expect("is ours");
    }

    #[test]
    fn no_message_quotes_a_value() {
        let path = file("broken.toml", "database_url = postgres://user:hunter2@host\n");
        let error = apply(command(), environment(&[(CONFIG, &path)])).expect_err("no TOML");
        assert!(error.to_string().contains("line 1"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
