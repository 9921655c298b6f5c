//! What an argument may be. Each kind is a positive list: what it does not name is refused.

mod awk;
mod bracket;
mod git;
mod jq;
mod path;
mod printf;
mod sed;
mod test_expression;
mod text;
mod url;

/// The kind of a flag's value or of an operand, as the catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text: it is printed, compared or searched for.
    Text,
    /// Any text that is no path out of the workspace: a revision, a package, a pathspec.
    Name,
    /// A file or folder that is read.
    Path,
    /// As `PATH`, but `-` is not the standard input: it may mean something else.
    File,
    /// A file or folder that is read, and has a name of its own: `a/.` stands for what is in it.
    Source,
    /// The name of a branch or tag.
    Ref,
    /// A file or folder that is created, changed or removed.
    Out,
    /// An archive: a path without a host before it.
    Archive,
    /// Digits.
    Number,
    /// `-5`, `+5`, `5`, `1.5`.
    Signed,
    /// `10k`, `1M`, `50%`.
    Size,
    /// `5`, `0.5`, `5s`, `2m`: at most an hour.
    Duration,
    /// `1,3-5`.
    Ranges,
    /// An http or https URL.
    Url,
    /// A sed script that only prints and changes text.
    Sed,
    /// An awk program that only prints.
    Awk,
    /// A jq filter that reads nothing but its input.
    Jq,
    /// printf's format.
    Printf,
    /// date's format, `+` and all.
    DateFormat,
    /// One of the arguments of `test`.
    TestWord,
    /// `NAME=value` for awk -v.
    Assignment,
    /// A plain word, such as a target of make: no path, no option, no variable.
    Word,
    /// The name of a test, such as `module::test`.
    TestName,
    /// The name of another machine.
    Host,
    /// A format of git's commits without `%G`, which runs gpg.
    GitFormat,
    /// A format of git's branches and tags without signatures.
    GitRefFormat,
    /// A format of git's dates.
    GitDate,
    /// One of some words.
    OneOf(Vec<String>),
    /// What is left is a command of its own.
    Command,
}

/// What an argument says beyond being allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Nothing,
    /// It names a file or folder.
    Path,
    /// It names another machine.
    Host(String),
}

impl Kind {
    /// `PATH`, or `(always|never)` for one of some words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(words) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
            return Ok(Self::OneOf(words.split('|').map(str::to_owned).collect()));
        }
        Ok(match text {
            "TEXT" => Self::Text,
            "NAME" => Self::Name,
            "PATH" => Self::Path,
            "FILE" => Self::File,
            "SOURCE" => Self::Source,
            "REF" => Self::Ref,
            "OUT" => Self::Out,
            "ARCHIVE" => Self::Archive,
            "NUMBER" => Self::Number,
            "SIGNED" => Self::Signed,
            "SIZE" => Self::Size,
            "DURATION" => Self::Duration,
            "RANGES" => Self::Ranges,
            "URL" => Self::Url,
            "SED" => Self::Sed,
            "AWK" => Self::Awk,
            "JQ" => Self::Jq,
            "PRINTF" => Self::Printf,
            "DATE" => Self::DateFormat,
            "TEST" => Self::TestWord,
            "ASSIGNMENT" => Self::Assignment,
            "WORD" => Self::Word,
            "TESTNAME" => Self::TestName,
            "HOST" => Self::Host,
            "GITFORMAT" => Self::GitFormat,
            "GITREFFORMAT" => Self::GitRefFormat,
            "GITDATE" => Self::GitDate,
            "COMMAND" => Self::Command,
            _ => return Err(format!("`{text}` is no kind of argument")),
        })
    }

    /// Whether an operand may begin with a dash. Behind a `--`, or where options have ended, it is no
    /// option to our reading; to a program that takes that for the value of a flag, it is one.
    pub(crate) fn may_look_like_a_flag(&self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Signed
                | Self::TestWord
                | Self::OneOf(_)
                | Self::Printf
                | Self::Command
        )
    }

    /// Whether a value is a file or folder that the command opens by this name.
    fn names_a_path(&self, value: &str) -> bool {
        let is_path =
            matches!(self, Self::Path | Self::File | Self::Source | Self::Out | Self::Archive);
        is_path && !matches!(value, "-" | "/dev/null")
    }

    /// Checks one argument.
    pub(crate) fn check(&self, value: &str) -> Result<Note, String> {
        match self {
            Self::Text => Ok(()),
            Self::Name => path::check_name(value),
            Self::Path => path::check_read(value),
            Self::File if value == "-" => Err("`-` is no file here".into()),
            Self::File => path::check_read(value),
            Self::Source => path::check_source(value),
            Self::Ref => text::check_ref(value),
            Self::Out => path::check_write(value),
            Self::Archive => path::check_archive(value),
            Self::Number => text::check_number(value),
            Self::Signed => text::check_signed(value),
            Self::Size => text::check_size(value),
            Self::Duration => text::check_duration(value),
            Self::Ranges => text::check_ranges(value),
            Self::Url => return url::check(value).map(Note::Host),
            Self::Host => return url::check_host(value).map(Note::Host),
            Self::TestName => text::check_word(&value.replace("::", "_")),
            Self::Word => text::check_word(value),
            Self::GitFormat => git::check_format(value),
            Self::GitRefFormat => git::check_ref_format(value),
            Self::GitDate => git::check_date(value),
            Self::Sed => sed::check(value),
            Self::Awk => awk::check(value),
            Self::Jq => jq::check(value),
            Self::Printf => printf::check(value),
            Self::DateFormat => text::check_date(value),
            Self::TestWord => test_expression::check(value),
            Self::Assignment => text::check_assignment(value),
            Self::OneOf(words) if words.iter().any(|word| word == value) => Ok(()),
            Self::OneOf(words) => Err(format!("known are {}", words.join(", "))),
            Self::Command => Err("a command cannot be a value".into()),
        }
        .map(|()| if self.names_a_path(value) { Note::Path } else { Note::Nothing })
    }
}
