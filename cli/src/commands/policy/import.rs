//! `bulkhead policy import`: a Codex rule file as a policy, with what cannot be carried over. Offline.

use std::path::Path;

use anyhow::Result;
use policy::{Engine, import_codex_rules};

use super::{INVALID, read};
use crate::console;

pub(super) fn run(file: &Path, json: bool) -> Result<u8> {
    let import = match import_codex_rules(&read(file)?) {
        Ok(import) => import,
        Err(error) => {
            console::say(format_args!("{}: {error}", file.display()));
            return Ok(INVALID);
        }
    };
    if let Err(error) = Engine::load(&import.policy) {
        console::say(format_args!("the imported policy does not load: {error}"));
        return Ok(INVALID);
    }
    if json {
        console::print_json(&import)?;
        return Ok(0);
    }
    console::print(import.policy.trim_end())?;
    for remark in &import.report {
        console::narrate(format_args!("{}:{}: {}", file.display(), remark.line, remark.message));
    }
    Ok(0)
}
