//! From the words after `--` to one script for bash.

/// One word is the script itself; several are joined so that bash sees the same words again.
pub fn script_from(words: &[String]) -> String {
    match words {
        [script] => script.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Quotes a word for a shell, and leaves alone what needs no quotes.
pub fn quote(word: &str) -> String {
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:,+@%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(words: &[&str]) -> String {
        script_from(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_single_word_is_a_script() {
        assert_eq!(script(&["echo a; echo b"]), "echo a; echo b");
    }

    #[test]
    fn several_words_stay_words() {
        assert_eq!(script(&["echo", "hello world"]), "echo 'hello world'");
        assert_eq!(script(&["echo", "it's", ""]), r"echo 'it'\''s' ''");
        assert_eq!(script(&["echo", "$HOME", "~", "a=b", "#"]), "echo '$HOME' '~' 'a=b' '#'");
        assert_eq!(script(&["ls", "-la", "./x"]), "ls -la ./x");
    }

    #[test]
    fn bash_reads_the_same_words_back() {
        let words = ["a b", "'", "\"", "$x", "\\", "*", "\n", "!", "-n"];
        let script = format!("printf '%s\\0' {}", script(&words));
        let output = std::process::Command::new("bash").args(["-c", &script]).output();
        let bytes = output.expect("bash runs").stdout;
        let read: Vec<_> = bytes.split(|&b| b == 0).collect();
        assert_eq!(read[..words.len()], words.map(str::as_bytes));
    }
}
