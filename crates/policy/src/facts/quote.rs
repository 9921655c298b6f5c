//! The canonical text of an argument vector. Two different vectors never share it, and bash reads
//! it back as the very vector that it was made from.

/// Quotes each argument where it needs it and joins them with single blanks.
pub(crate) fn line<S: AsRef<str>>(argv: &[S]) -> String {
    let words: Vec<String> = argv.iter().map(|word| quote(word.as_ref())).collect();
    words.join(" ")
}

fn quote(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Bytes that mean themselves to bash wherever they stand in an argument.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:,+=@%^".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_they_need_it() {
        assert_eq!(line(&["ls", "-la", "my dir"]), "ls -la 'my dir'");
        assert_eq!(line(&["echo", "", "it's"]), r"echo '' 'it'\''s'");
        assert_eq!(line(&["echo", "$HOME", "a\nb"]), "echo '$HOME' 'a\nb'");
    }

    #[test]
    fn different_vectors_have_different_lines() {
        let vectors: [&[&str]; 6] =
            [&["a b"], &["a", "b"], &["'a", "b'"], &["a", "", "b"], &["a  b"], &["a\\ b"]];
        for (i, one) in vectors.iter().enumerate() {
            for other in &vectors[i + 1..] {
                assert_ne!(line(one), line(other));
            }
        }
    }
}
