//! The short list of programs that only read, and the exact forms in which they are recognised.
//!
//! A stand-in for the grammar catalogue: positive lists of flags, relative operands only.

/// One program: the flags that it may be given, and what its operands are.
struct Program {
    name: &'static str,
    /// Letters that may be combined behind one dash.
    flags: &'static str,
    /// Flags that take the next word as a number.
    numbered: &'static [&'static str],
    operands: Operands,
}

#[derive(PartialEq)]
enum Operands {
    /// None at all.
    None,
    /// Any words: the program only prints them.
    Text,
    /// Relative paths inside the workspace.
    Paths,
}

const PROGRAMS: &[Program] = &[
    Program { name: "true", flags: "", numbered: &[], operands: Operands::None },
    Program { name: "false", flags: "", numbered: &[], operands: Operands::None },
    Program { name: "echo", flags: "n", numbered: &[], operands: Operands::Text },
    Program { name: "pwd", flags: "LP", numbered: &[], operands: Operands::None },
    Program { name: "whoami", flags: "", numbered: &[], operands: Operands::None },
    Program { name: "id", flags: "ugGn", numbered: &[], operands: Operands::None },
    Program { name: "uname", flags: "asnrvmpio", numbered: &[], operands: Operands::None },
    Program { name: "ls", flags: "1aAlhtrSRFdips", numbered: &[], operands: Operands::Paths },
    Program { name: "cat", flags: "nbsAETv", numbered: &[], operands: Operands::Paths },
    Program { name: "head", flags: "qv", numbered: &["-n", "-c"], operands: Operands::Paths },
    Program { name: "tail", flags: "qv", numbered: &["-n", "-c"], operands: Operands::Paths },
    Program { name: "wc", flags: "clmwL", numbered: &[], operands: Operands::Paths },
];

/// Splits a script that passed the gate into words, if it is one harmless command.
///
/// # Errors
/// Says which part of it was not recognised.
pub(crate) fn recognise(command: &str) -> Result<Vec<&str>, String> {
    let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
    let Some((name, arguments)) = words.split_first() else {
        return Err("it is empty".into());
    };
    let program = PROGRAMS
        .iter()
        .find(|program| program.name == *name)
        .ok_or("its program is not on the list of those that only read")?;
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if program.numbered.contains(word) {
            let number = rest.next().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            if !number {
                return Err(format!("`{name} {word}` needs a plain number"));
            }
        } else if let Some(letters) = word.strip_prefix('-') {
            let known = !letters.is_empty() && letters.chars().all(|c| program.flags.contains(c));
            if !known {
                return Err(format!("`{name}` is given a flag that is not on its list"));
            }
        } else if !accepts(&program.operands, word) {
            return Err(format!("`{name}` is given an operand that is not on its list"));
        }
    }
    Ok(words)
}

fn accepts(operands: &Operands, word: &str) -> bool {
    match operands {
        Operands::None => false,
        Operands::Text => true,
        Operands::Paths => !word.starts_with('/') && word.split('/').all(|part| part != ".."),
    }
}
